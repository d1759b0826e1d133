import type { KubeObject } from '#shared/kubernetes/objects.ts';

/** The parts of Tekton's v1 API that the stand-in reads and writes (tekton.dev/docs/pipelines/pipeline-api). */

export type ParamValue = string | string[] | Record<string, string>;
export type ParamType = 'string' | 'array' | 'object';

export interface Param {
  name: string;
  value: ParamValue;
}

export interface ParamSpec {
  name: string;
  type?: ParamType;
  default?: ParamValue;
}

export interface EnvVar {
  name: string;
  value?: string;
  valueFrom?: {
    secretKeyRef?: KeyRef;
    configMapKeyRef?: KeyRef;
    fieldRef?: { fieldPath: string };
    resourceFieldRef?: unknown;
  };
}

export interface KeyRef {
  name: string;
  key: string;
  optional?: boolean;
}

export interface VolumeMount {
  name: string;
  mountPath: string;
  subPath?: string;
  readOnly?: boolean;
}

/** What a step and the template of all steps have in common. */
export interface StepTemplate {
  image?: string;
  command?: string[];
  args?: string[];
  env?: EnvVar[];
  envFrom?: unknown[];
  workingDir?: string;
  volumeMounts?: VolumeMount[];
  volumeDevices?: unknown[];
  computeResources?: unknown;
  securityContext?: { runAsUser?: number; [field: string]: unknown };
}

export interface Step extends StepTemplate {
  name?: string;
  script?: string;
  /** A duration as Go writes it, `1h2m3s`. */
  timeout?: string;
  onError?: 'continue' | 'stopAndFail';
  ref?: unknown;
  workspaces?: unknown[];
}

export interface KeyToPath {
  key: string;
  path: string;
  mode?: number;
}

export interface Volume {
  name: string;
  emptyDir?: Record<string, unknown>;
  secret?: { secretName: string; optional?: boolean; defaultMode?: number; items?: KeyToPath[] };
  configMap?: { name: string; optional?: boolean; defaultMode?: number; items?: KeyToPath[] };
  [otherKind: string]: unknown;
}

export interface WorkspaceDeclaration {
  name: string;
  mountPath?: string;
  optional?: boolean;
  readOnly?: boolean;
}

export interface WorkspaceBinding {
  name: string;
  subPath?: string;
  emptyDir?: Record<string, unknown>;
  secret?: Volume['secret'];
  configMap?: Volume['configMap'];
  [otherKind: string]: unknown;
}

export interface ResultSpec {
  name: string;
  type?: ParamType;
}

export interface TaskSpec {
  description?: string;
  params?: ParamSpec[];
  results?: ResultSpec[];
  stepTemplate?: StepTemplate;
  steps?: Step[];
  sidecars?: unknown[];
  volumes?: Volume[];
  workspaces?: WorkspaceDeclaration[];
}

export interface Task extends KubeObject {
  spec: TaskSpec;
}

export interface TaskRunSpec {
  params?: Param[];
  taskRef?: { name?: string; kind?: string; resolver?: string };
  taskSpec?: TaskSpec;
  workspaces?: WorkspaceBinding[];
  serviceAccountName?: string;
  timeout?: string;
  retries?: number;
  status?: string;
  statusMessage?: string;
}

export interface Condition {
  type: string;
  status: 'True' | 'False' | 'Unknown';
  reason?: string;
  message?: string;
  lastTransitionTime?: string;
}

export interface TaskRunResult {
  name: string;
  type: ParamType;
  value: ParamValue;
}

/** Of a container: one of the three. */
export interface ContainerState {
  waiting?: { reason?: string; message?: string };
  running?: { startedAt: string };
  terminated?: {
    exitCode: number;
    reason?: string;
    message?: string;
    startedAt?: string;
    finishedAt?: string;
  };
}

export interface StepState extends ContainerState {
  name: string;
  container: string;
  terminationReason?: string;
}

export interface TaskRunStatus {
  /** The CRD refuses a status without it; empty while there is no Pod. */
  podName: string;
  conditions?: Condition[];
  startTime?: string | null;
  completionTime?: string | null;
  taskSpec?: TaskSpec;
  steps?: StepState[];
  results?: TaskRunResult[];
  retriesStatus?: TaskRunStatus[];
}

export interface TaskRun extends KubeObject {
  spec: TaskRunSpec;
  status?: TaskRunStatus;
}
