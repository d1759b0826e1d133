import { createProgress } from '#sandbox/progress.ts';
import { startSandbox, type Sandbox, type SandboxOptions } from '#sandbox/sandbox.ts';
import { systemClock } from '#shared/clock.ts';
import { HOST_CONFIG_NAME, METRICS_PREFIX } from '#shared/names.ts';
import { PATH } from '#shared/kubernetes/paths.ts';
import { LEDGER_NAME } from '#controller/host/ledger.ts';
import { RECORDS_NAME } from '#controller/host/records.ts';
import type { ConfigMap, KubeObject } from '#shared/kubernetes/objects.ts';
import { ignoreNotFound } from '#shared/kubernetes/errors.ts';

import { BUILDS, until } from './builds.ts';

/** A sandbox with a namespace for builds. */
export async function startWithBuilds(
  options: Pick<SandboxOptions, 'hosts'> & Partial<SandboxOptions>,
): Promise<Sandbox> {
  const sandbox = await startSandbox({
    env: process.env,
    progress: createProgress({ output: process.stdout, clock: systemClock }),
    ...options,
  });
  try {
    await sandbox.createNamespace(BUILDS);
  } catch (error) {
    await sandbox.stop();
    throw error;
  }
  return sandbox;
}

/** What a test asks of the controller itself, rather than of the TaskRuns. */
export function controllerOf(sandbox: Sandbox) {
  const { client, controller, namespace } = sandbox;
  const metric = async (name: string, labels = ''): Promise<number | null> => {
    const text = await controller.metrics().catch(() => '');
    const line = text.split('\n').find((candidate) => candidate.startsWith(`${METRICS_PREFIX}${name}${labels} `));
    return line === undefined ? null : Number(line.split(' ').at(-1));
  };
  const dataOf = async (name: string): Promise<Record<string, string>> =>
    (await ignoreNotFound(client.get<ConfigMap>(PATH.configMaps(namespace, name))))?.data ?? {};
  return {
    metric,
    /** Waits until the metric, without labels or with just these, has this value. */
    metricIs: async (name: string, value: number, labels = ''): Promise<void> =>
      void (await until(`${name}${labels} to be ${value}`, async () =>
        (await metric(name, labels)) === value ? true : null,
      )),
    isOffered: async (host: string): Promise<boolean> =>
      (await metric('host_available', `{host="${host}",platform="linux-arm64"}`)) === 1,
    logHas: async (text: string | RegExp): Promise<void> =>
      void (await until(`the log to say ${text}`, async () => {
        const log = await controller.log();
        return (typeof text === 'string' ? log.includes(text) : text.test(log)) ? true : null;
      })),
    debts: async (): Promise<{ host: string; taskRun: string }[]> =>
      Object.values(await dataOf(LEDGER_NAME)).map((text) => JSON.parse(text) as { host: string; taskRun: string }),
    records: async (): Promise<Record<string, { endpoints: { address: string }[] }>> =>
      Object.fromEntries(
        Object.entries(await dataOf(RECORDS_NAME)).map(([host, text]) => [
          host,
          JSON.parse(text) as { endpoints: { address: string }[] },
        ]),
      ),
    /**
     * SIGKILL, and lets go of its lease as client-go does: the next one would wait for it to run out, which is not what most tests are
     * about.
     */
    kill: async (): Promise<void> => {
      await controller.kill();
      const spec = { holderIdentity: '', leaseDurationSeconds: 1 };
      await client.patch(PATH.leases(namespace, 'multi-platform-controller'), { spec });
    },
    /** What Events say on `host-config`. */
    configEvents: async (): Promise<string[]> => {
      const { items } = await client.list<KubeObject & { message: string }>(PATH.events(namespace), {
        fieldSelector: `involvedObject.kind=ConfigMap,involvedObject.name=${HOST_CONFIG_NAME}`,
      });
      return items.map(({ message }) => message);
    },
  };
}
