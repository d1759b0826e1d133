import { appendFile } from 'node:fs/promises';
import type { Clock } from '#shared/clock.ts';
import { messageOf } from '#shared/errors.ts';
import { formatTerminationMessage, parseEntrypoint, type Entrypoint } from './entrypoint.ts';
import { expand } from './expand.ts';
import type { Container } from './pod-types.ts';
import type { PodSandbox } from './runtime.ts';

export interface ContainerOutcome {
  /** As the container reports it: 0 for a step that may fail. */
  readonly code: number;
  /** The termination message. */
  readonly message: string;
}

const RESULTS = '/tekton/results';

/** Runs one container to its end, as Tekton's entrypoint in it would: results, timeout and `onError` are its business. */
export async function runContainer(run: {
  container: Container;
  env: ReadonlyMap<string, string>;
  logPath: string;
  sandbox: PodSandbox;
  clock: Clock;
}): Promise<ContainerOutcome> {
  const { container, env, logPath, sandbox, clock } = run;
  const entrypoint = parseEntrypoint((container.args ?? []).map((arg) => expand(arg, env)));
  const deadline = new AbortController();
  let timedOut = false;
  if (entrypoint.timeoutMs !== undefined) {
    void clock.sleep(entrypoint.timeoutMs, deadline.signal).then(() => {
      if (deadline.signal.aborted) return;
      timedOut = true;
      sandbox.signal('SIGKILL');
    });
  }
  const code = await sandbox.run({
    name: container.name,
    argv: entrypoint.argv,
    env,
    workingDir: workingDirOf(container),
    mounts: (container.volumeMounts ?? []).map(({ name, mountPath, subPath, readOnly = false }) => ({
      volume: name,
      mountPath,
      subPath,
      readOnly,
    })),
    logPath,
  });
  deadline.abort();
  try {
    const message = formatTerminationMessage({
      results: await resultsOf(entrypoint, container, sandbox),
      reason: timedOut ? 'TimeoutExceeded' : undefined,
      exitCode: code !== 0 && entrypoint.continueOnError ? code : undefined,
    });
    return { code: entrypoint.continueOnError ? 0 : code, message };
  } catch (error) {
    await appendFile(logPath, `${messageOf(error)}\n`);
    return { code: 1, message: '' };
  }
}

/** As with Tekton, one that is not absolute is below /workspace. The image's own is not known. */
function workingDirOf({ workingDir = '/' }: Container): string {
  return workingDir.startsWith('/') ? workingDir : `/workspace/${workingDir}`;
}

async function resultsOf(
  { results }: Entrypoint,
  { volumeMounts = [] }: Container,
  sandbox: PodSandbox,
): Promise<Map<string, string>> {
  const volume = volumeMounts.find(({ mountPath }) => mountPath === RESULTS)?.name;
  const found = new Map<string, string>();
  if (volume === undefined) return found;
  for (const name of results) {
    const value = await sandbox.readFile(volume, name);
    if (value !== undefined) found.set(name, value);
  }
  return found;
}
