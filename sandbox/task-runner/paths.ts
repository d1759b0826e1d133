import { PATH } from '#shared/kubernetes/paths.ts';

/** Request paths that only the stand-in needs. */
export const STAND_IN_PATH = {
  task: (namespace: string, name: string) =>
    `/apis/tekton.dev/v1/namespaces/${encodeURIComponent(namespace)}/tasks/${encodeURIComponent(name)}`,
  taskRunStatus: (namespace: string, name: string) => `${PATH.taskRuns(namespace, name)}/status`,
  podStatus: (namespace: string, name: string) => `${PATH.pods(namespace, name)}/status`,
  podBinding: (namespace: string, name: string) => `${PATH.pods(namespace, name)}/binding`,
} as const;
