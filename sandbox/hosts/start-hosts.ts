import type { Host, HostKind, HostSpec } from './host.ts';
import { startNamespaceHost } from './namespace-host.ts';
import { openHostNetwork } from './network.ts';
import { createRunFolder } from '../run-folder.ts';
import { rm } from 'node:fs/promises';
import { type Progress, ensureCommands } from '../packages.ts';

export interface StartHostsOptions {
  /** `auto` takes namespaces where this is root on Linux, else containers, else the imitation. */
  readonly kind: HostKind | 'auto';
  readonly hosts: readonly HostSpec[];
  /** A line as in `authorized_keys`. */
  readonly adminPublicKey: string;
  readonly progress: Progress;
}

export interface Hosts {
  readonly kind: HostKind;
  /** In the order asked for. */
  readonly hosts: readonly Host[];
  /** Holds each host's log, `host-NAME/sshd.log`. */
  readonly runFolder: string;
  /** Starts one more of the same kind. */
  add(spec: HostSpec): Promise<Host>;
  /** Stops all and leaves nothing. May be called again. */
  stop(): Promise<void>;
}

/** Starts them side by side. Where one fails, those that run are stopped. */
export async function startHosts({ hosts: specs, adminPublicKey, progress }: StartHostsOptions): Promise<Hosts> {
  const usesSudo = specs.some(({ admin }) => admin?.sudo === true);
  const usesFish = specs.some(({ admin }) => admin?.shell === 'fish');
  await ensureCommands(
    ['ip', 'tc', 'sshd', 'rsync', ...(usesSudo ? (['sudo'] as const) : []), ...(usesFish ? (['fish'] as const) : [])],
    progress,
  );
  const network = await openHostNetwork();
  const runFolder = await createRunFolder('hosts');
  const hosts: Host[] = [];
  const add = async (spec: HostSpec): Promise<Host> => {
    const host = await startNamespaceHost({ ...spec, adminPublicKey, network, runFolder });
    hosts.push(host);
    return host;
  };
  const stop = async (): Promise<void> => {
    await Promise.all(hosts.map(async (host) => await host.stop()));
    network.close();
    await rm(runFolder, { recursive: true, force: true });
  };
  const started = await Promise.allSettled(specs.map(add));
  const failed = started.find((result) => result.status === 'rejected');
  if (failed !== undefined) {
    await stop();
    throw failed.reason;
  }
  const inOrder = started.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
  return { kind: 'namespace', hosts: inOrder, runFolder, add, stop };
}
