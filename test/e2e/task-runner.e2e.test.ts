import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ensureCommands } from '#sandbox/packages.ts';
import { createProgress } from '#sandbox/progress.ts';
import { type Sandbox, startSandbox } from '#sandbox/sandbox.ts';
import type { Pod } from '#sandbox/task-runner/pod-types.ts';
import { startTaskRunner } from '#sandbox/task-runner/stand-in.ts';
import type { Task, TaskRun, TaskRunSpec, TaskSpec } from '#sandbox/task-runner/tekton-types.ts';
import { systemClock } from '#shared/clock.ts';
import { ignoreNotFound } from '#shared/kubernetes/errors.ts';
import type { Secret } from '#shared/kubernetes/objects.ts';
import { PATH } from '#shared/kubernetes/paths.ts';
import { createLog } from '#shared/log.ts';

const NAMESPACE = 'runs';
const IMAGE = 'any';
const FINALIZER = 'example.com/hold';

let sandbox: Sandbox;

beforeAll(async () => {
  const progress = createProgress({ output: process.stdout, clock: systemClock });
  sandbox = await startSandbox({ hosts: [], env: process.env, progress, webhook: false, controller: false });
  await sandbox.createNamespace(NAMESPACE);
});

afterAll(async () => {
  await sandbox?.stop();
});

describe('a step', () => {
  test('finds its mounts, variables, arguments and working folder where they belong, and gives results', async () => {
    await createSecret('files', { key: 'secret text\n' });
    const task: Task = {
      metadata: { name: 'look', namespace: NAMESPACE },
      spec: {
        params: [{ name: 'LIST', type: 'array', default: ['', "it's", 'a  b\n$HOME *'] }],
        results: [{ name: 'text' }, { name: 'list', type: 'array' }],
        workspaces: [{ name: 'source' }],
        stepTemplate: { env: [{ name: 'WHO', value: 'template "$HOME"' }] },
        steps: [
          {
            name: 'first',
            image: IMAGE,
            workingDir: '$(workspaces.source.path)/inside',
            env: [
              { name: 'KEY', valueFrom: { secretKeyRef: { name: 'files', key: 'key' } } },
              { name: 'dotted.name', value: '$(WHO)!' },
            ],
            volumeMounts: [{ name: 'files', mountPath: '/ssh' }],
            script: `#!/bin/bash
              set -e
              printf '[%s]' "$@"; echo
              printf '%s|%s|%s|%s\\n' "$WHO" "$KEY" "$PWD" "$HOME"
              env | grep ^dotted
              cat /ssh/key; touch /ssh/x 2>&1 | grep -o 'Read-only' || echo writable
              echo shared > ../shared; echo mine > /etc/of-this-step; echo mine > /tmp/of-this-step
              printf '%s' 'line 1
line "2"' > $(results.text.path)
              printf '["a","b c"]' > $(results.list.path)`,
            args: ['$(params.LIST[*])', '$(WHO)', '$$(WHO)'],
          },
          {
            name: 'second',
            image: IMAGE,
            command: ['sh', '-c'],
            args: [
              'cat /workspace/source/shared; ls /etc/of-this-step /tmp/of-this-step /ssh 2>&1 | grep -c "No such"; echo $(context.taskRun.name)',
            ],
          },
        ],
        volumes: [{ name: 'files', secret: { secretName: 'files' } }],
      },
    };
    await sandbox.client.create<Task>(`/apis/tekton.dev/v1/namespaces/${NAMESPACE}/tasks`, {
      apiVersion: 'tekton.dev/v1',
      kind: 'Task',
      ...task,
    });
    await run('look', { taskRef: { name: 'look' }, workspaces: [{ name: 'source', emptyDir: {} }] });
    const { status } = await ended('look');
    expect(await logOf('look')).toBe(`[][it's][a  b
$HOME *][template "$HOME"][$(WHO)]
template "$HOME"|secret text
|/workspace/source/inside|/root
dotted.name=template "$HOME"!
secret text
Read-only
shared
3
look
`);
    expect(status).toMatchObject({
      podName: 'look-pod',
      conditions: [{ status: 'True', reason: 'Succeeded' }],
      results: [
        { name: 'text', value: 'line 1\nline "2"' },
        { name: 'list', value: ['a', 'b c'] },
      ],
      steps: [
        { name: 'first', terminated: { exitCode: 0 } },
        { name: 'second', terminated: { exitCode: 0 } },
      ],
    });
    expect(existsSync('/etc/of-this-step') || existsSync('/tmp/of-this-step')).toBe(false);
  });

  test('that fails ends the TaskRun, unless it may; those after it are skipped', async () => {
    await run('fails', {
      taskSpec: {
        steps: [
          { name: 'may', image: IMAGE, script: 'exit 5', onError: 'continue' },
          { name: 'fails', image: IMAGE, script: 'kill -9 $$' },
          { name: 'never', image: IMAGE, script: 'echo never' },
        ],
      },
    });
    const { status } = await ended('fails');
    expect(status).toMatchObject({
      conditions: [{ status: 'False', reason: 'StepFailed', message: '"step-fails" exited with code 137: Error' }],
      steps: [
        { name: 'may', terminated: { exitCode: 5 }, terminationReason: 'Continued' },
        { name: 'fails', terminated: { exitCode: 137 }, terminationReason: 'Error' },
        { name: 'never', terminationReason: 'Skipped' },
      ],
    });
    expect(await logOf('fails')).toBe('');
    expect((await podOf('fails'))?.status?.phase).toBe('Failed');
  });

  test('that takes too long is killed', async () => {
    await run('slow-step', {
      taskSpec: { steps: [{ name: 'slow', image: IMAGE, script: 'sleep 1000', timeout: '300ms' }] },
    });
    const { status } = await ended('slow-step');
    expect(status?.conditions?.[0]?.message).toContain('exceeded the specified timeout limit');
  });

  test('runs with its Task tried again as often as it says, each time in a Pod of its own', async () => {
    await run('again', {
      retries: 2,
      taskSpec: {
        steps: [
          {
            name: 's',
            image: IMAGE,
            script: 'echo $(context.task.retry-count); exit $(( 1 - $(context.task.retry-count) ))',
          },
        ],
      },
    });
    const { status } = await ended('again');
    expect(status).toMatchObject({ podName: 'again-pod-retry1', conditions: [{ status: 'True' }] });
    expect(status?.retriesStatus).toHaveLength(1);
    expect((await logOf('again')).split('\n').toSorted()).toEqual(['', '0', '1']);
  });

  test('builds an image with buildah, in a file system that has room for it', async () => {
    await ensureCommands(['buildah', 'busybox'], () => undefined);
    const script = `#!/bin/bash
      set -e
      mkdir context; cp /usr/bin/busybox context/; echo "hello" > context/text
      cat > context/Dockerfile <<'END'
FROM scratch
COPY busybox /bin/sh
COPY text /text
RUN read line < /text && echo "$line from a build" > /built
END
      export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot
      buildah bud --quiet --tag local/built context >/dev/null
      mounted=$(buildah mount $(buildah from local/built))
      cat "$mounted/built"`;
    await run('image', {
      taskSpec: {
        steps: [
          {
            name: 'build',
            image: IMAGE,
            script,
            workingDir: '/workspace',
            volumeMounts: [{ name: 'varlibcontainers', mountPath: '/var/lib/containers' }],
          },
        ],
        volumes: [{ name: 'varlibcontainers', emptyDir: {} }],
      },
    });
    await ended('image');
    expect(await logOf('image')).toBe('hello from a build\n');
  });
});

describe('a Pod whose Secret is missing', () => {
  const spec: TaskRunSpec = {
    taskSpec: {
      steps: [{ name: 's', image: IMAGE, script: 'cat /ssh/key', volumeMounts: [{ name: 'ssh', mountPath: '/ssh' }] }],
      volumes: [{ name: 'ssh', secret: { secretName: 'late-$(context.taskRun.name)', optional: false } }],
    },
  };

  test('is bound, waits, and looks again by itself', async () => {
    await run('waits', spec);
    await until('the Pod is bound', async () => (await podOf('waits'))?.spec.nodeName === 'stand-in');
    expect((await get('waits'))?.status?.taskSpec?.volumes?.[0]?.secret?.secretName).toBe('late-waits');
    await createSecret('late-waits', { key: 'came' });
    const { status } = await ended('waits');
    expect(status?.conditions?.[0]?.status).toBe('True');
    expect(await logOf('waits')).toBe('came');
  });

  test('looks at once when an annotation is written on it', async () => {
    await run('nudged', spec);
    // It has looked after 0, 0.5, 1.5 and 3.5 s by then, and by itself looks next after 7.5 s.
    await sleep(3800);
    await createSecret('late-nudged', { key: 'came' });
    await sleep(200);
    expect((await get('nudged'))?.status?.conditions?.[0]?.reason).toBe('Pending');
    const startMs = performance.now();
    await sandbox.client.patch(PATH.pods(NAMESPACE, 'nudged-pod'), { metadata: { annotations: { look: 'now' } } });
    await ended('nudged');
    expect(performance.now() - startMs).toBeLessThan(3000);
  });

  test('does without one that is optional', async () => {
    await run('optional', {
      taskSpec: {
        steps: [{ name: 's', image: IMAGE, script: 'ls -A /ssh', volumeMounts: [{ name: 'ssh', mountPath: '/ssh' }] }],
        volumes: [{ name: 'ssh', secret: { secretName: 'never-there', optional: true } }],
      },
    });
    expect((await ended('optional')).status?.conditions?.[0]?.status).toBe('True');
  });
});

describe('a TaskRun', () => {
  /** Says in its log when it is asked to end, and takes a moment to do so. */
  const patient: TaskSpec = {
    steps: [{ name: 's', image: IMAGE, script: 'trap "echo asked to end; exit 3" TERM\necho up\nsleep 1000 & wait' }],
  };

  test('that is cancelled ends at once; its step is asked to end and its Pod goes', async () => {
    await run('cancelled', { taskSpec: patient });
    await logHas('cancelled', 'up');
    expect(await processesOfPods()).not.toEqual([]);
    await sandbox.client.patch(PATH.taskRuns(NAMESPACE, 'cancelled'), { spec: { status: 'TaskRunCancelled' } });
    const { status } = await ended('cancelled');
    expect(status).toMatchObject({
      conditions: [{ status: 'False', reason: 'TaskRunCancelled' }],
      steps: [{ terminated: { exitCode: 1, reason: 'TaskRunCancelled' } }],
    });
    await until('the Pod is gone', async () => (await podOf('cancelled')) === null);
    expect(await logOf('cancelled')).toBe('up\nasked to end\n');
    await nothingRuns();
  });

  test('that is cancelled while its Pod waits never runs', async () => {
    const volumes = [{ name: 'v', secret: { secretName: 'never-there' } }];
    await run('cancelled-early', { taskSpec: { ...patient, volumes } });
    await until('the Pod is there', async () => (await podOf('cancelled-early')) !== null);
    await sandbox.client.patch(PATH.taskRuns(NAMESPACE, 'cancelled-early'), { spec: { status: 'TaskRunCancelled' } });
    await ended('cancelled-early');
    await until('the Pod is gone', async () => (await podOf('cancelled-early')) === null);
    expect(await logOf('cancelled-early')).toBe('');
  });

  test('that takes too long is ended', async () => {
    await run('times-out', { timeout: '1s', taskSpec: patient });
    const { status } = await ended('times-out');
    expect(status?.conditions?.[0]).toMatchObject({
      reason: 'TaskRunTimeout',
      message: 'TaskRun "times-out" failed to finish within "1s"',
    });
    await nothingRuns();
  });

  test('that is deleted keeps its Pod while a finalizer holds it, and not a moment longer', async () => {
    await run('deleted', { taskSpec: patient }, { finalizers: [FINALIZER] });
    await logHas('deleted', 'up');
    await sandbox.client.delete(PATH.taskRuns(NAMESPACE, 'deleted'));
    await sleep(500);
    expect((await podOf('deleted'))?.metadata.deletionTimestamp).toBeUndefined();
    await sandbox.client.patch(PATH.taskRuns(NAMESPACE, 'deleted'), { metadata: { finalizers: null } });
    await until('the Pod is gone', async () => (await podOf('deleted')) === null);
    await nothingRuns();
  });

  test('that is pending has no Pod until it may start', async () => {
    await run('pending', {
      status: 'TaskRunPending',
      taskSpec: { steps: [{ name: 's', image: IMAGE, script: 'echo ran' }] },
    });
    await until(
      'it is pending',
      async () => (await get('pending'))?.status?.conditions?.[0]?.reason === 'TaskRunPending',
    );
    expect(await podOf('pending')).toBeNull();
    await sandbox.client.patch(PATH.taskRuns(NAMESPACE, 'pending'), { spec: { status: null } });
    await ended('pending');
    expect(await logOf('pending')).toBe('ran\n');
  });

  test.each<[string, TaskRunSpec, string]>([
    ['no-such-task', { taskRef: { name: 'nowhere' } }, 'TaskRunResolutionFailed'],
    [
      'no-value',
      { taskSpec: { params: [{ name: 'P' }], steps: [{ image: IMAGE, script: 'x' }] } },
      'TaskRunValidationFailed',
    ],
    [
      'no-such-volume',
      { taskSpec: { steps: [{ image: IMAGE, script: 'x', volumeMounts: [{ name: 'none', mountPath: '/x' }] }] } },
      'PodCreationFailed',
    ],
  ])('called %s fails and says why', async (name, spec, reason) => {
    await run(name, spec);
    expect((await ended(name)).status?.conditions?.[0]).toMatchObject({ status: 'False', reason });
  });
});

test('60 TaskRuns at once all run, and leave no process', async () => {
  const names = Array.from({ length: 60 }, (_, index) => `many-${index}`);
  await Promise.all(
    names.map((name) =>
      run(name, { taskSpec: { steps: [{ name: 's', image: IMAGE, script: 'echo $(context.taskRun.name)' }] } }),
    ),
  );
  const conditions = async (): Promise<unknown[]> => {
    const { items } = await sandbox.client.list<TaskRun>(PATH.taskRuns(NAMESPACE));
    const many = items.filter(({ metadata }) => metadata.name.startsWith('many-'));
    return many.map(({ status }) => status?.conditions?.[0]?.status);
  };
  await until(
    'all have ended',
    async () => (await conditions()).every((status) => status === 'True' || status === 'False'),
    250,
  );
  expect(await conditions()).toEqual(names.map(() => 'True'));
  expect(await Promise.all(names.map(logOf))).toEqual(names.map((name) => `${name}\n`));
  await nothingRuns();
});

test('a task runner can be stopped at any moment, and leaves no process', async () => {
  const client = sandbox.client;
  await sandbox.taskRunner?.stop();
  const log = createLog({ level: 'error', destination: { write: () => undefined } });
  for (const [round, afterMs] of [0, 30, 100, 200, 400].entries()) {
    const folder = `${sandbox.folder}/stopped-${round}`;
    const runner = await startTaskRunner({ client, folder, clock: systemClock, log });
    const names = Array.from({ length: 12 }, (_, index) => `stopped-${round}-${index}`);
    await Promise.all(
      names.map((name) => run(name, { taskSpec: { steps: [{ name: 's', image: IMAGE, script: 'sleep 1000' }] } })),
    );
    await sleep(afterMs);
    await runner.stop();
    expect(await processesOfPods()).toEqual([]);
    await Promise.all(names.map((name) => client.delete(PATH.taskRuns(NAMESPACE, name))));
    await Promise.all(
      names.map((name) => {
        const pod = PATH.pods(NAMESPACE, `${name}-pod`);
        return ignoreNotFound(client.request('DELETE', pod, { query: { gracePeriodSeconds: 0 } }));
      }),
    );
  }
});

async function run(name: string, spec: TaskRunSpec, metadata: Partial<TaskRun['metadata']> = {}): Promise<void> {
  await sandbox.client.create<TaskRun>(PATH.taskRuns(NAMESPACE), {
    apiVersion: 'tekton.dev/v1',
    kind: 'TaskRun',
    metadata: { ...metadata, name, namespace: NAMESPACE },
    spec,
  });
}

async function createSecret(name: string, stringData: Record<string, string>): Promise<void> {
  await sandbox.client.create<Secret>(PATH.secrets(NAMESPACE), {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name, namespace: NAMESPACE },
    stringData,
  });
}

async function get(name: string): Promise<TaskRun | null> {
  return await ignoreNotFound(sandbox.client.get<TaskRun>(PATH.taskRuns(NAMESPACE, name)));
}

async function podOf(name: string): Promise<Pod | null> {
  return await ignoreNotFound(sandbox.client.get<Pod>(PATH.pods(NAMESPACE, `${name}-pod`)));
}

async function ended(name: string): Promise<TaskRun> {
  let taskRun: TaskRun | null = null;
  await until(`${name} has ended`, async () => {
    taskRun = await get(name);
    return taskRun?.status?.completionTime !== undefined;
  });
  return taskRun as unknown as TaskRun;
}

async function logOf(name: string): Promise<string> {
  return (await sandbox.taskRunner?.logOf(NAMESPACE, name)) ?? '';
}

async function logHas(name: string, text: string): Promise<void> {
  await until(`${name} says "${text}"`, async () => (await logOf(name)).includes(text));
}

/** Those that hold the Pods of this sandbox: they have its mount point in their environment. */
async function processesOfPods(): Promise<string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const environments = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/environ`, 'utf8').catch(() => '')));
  return pids.filter((_, index) => environments[index]?.includes(`MOUNT_POINT=${sandbox.folder}`));
}

async function nothingRuns(): Promise<void> {
  await until('no process of a Pod is left', async () => (await processesOfPods()).length === 0);
}

async function until(what: string, holds: () => Promise<boolean>, everyMs = 50): Promise<void> {
  const deadline = performance.now() + 60_000;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`not so after a minute: ${what}`);
    await sleep(everyMs);
  }
}
