import { rm } from 'node:fs/promises';
import { AppError, messageOf } from '#shared/errors.ts';
import { type Progress, type SystemCommand, ensureCommands } from '../packages.ts';
import { createRunFolder } from '../run-folder.ts';
import { type ContainerEngine, buildHostImage, findContainerEngine, startContainerHost } from './container-host.ts';
import type { Host, HostKind, HostSpec } from './host.ts';
import { IMITATION_NOTICE, startImitationHost } from './imitation-host.ts';
import { canMakeNamespaces, startNamespaceHost } from './namespace-host.ts';
import { openHostNetwork } from './network.ts';

export interface StartHostsOptions {
  /** `auto` takes namespaces where this is root on Linux and may make them, else containers where they work, else the imitation. */
  readonly kind: HostKind | 'auto';
  readonly hosts: readonly HostSpec[];
  /** A line as in `authorized_keys`. */
  readonly adminPublicKey: string;
  readonly progress: Progress;
  /** For containers. Default: Docker or Podman, whichever works. */
  readonly containerEngine?: ContainerEngine;
}

export interface Hosts {
  readonly kind: HostKind;
  /** In the order asked for, then those that were added. */
  readonly hosts: readonly Host[];
  /** Holds each host's log. */
  readonly runFolder: string;
  /** Starts one more of the same kind. */
  add(spec: HostSpec): Promise<Host>;
  /** Stops all, those that were added too, and leaves nothing. May be called again. */
  stop(): Promise<void>;
}

type StartOne = (spec: HostSpec, runFolder: string) => Promise<Host>;

interface Maker {
  readonly kind: HostKind;
  readonly startOne: StartOne;
  readonly close: () => void;
}

/**
 * Starts them side by side. Where one fails, those that run are stopped.
 *
 * @throws AppError `host-failed`, `packages-missing`, `no-engine`, `needs-root`
 */
export async function startHosts(options: StartHostsOptions): Promise<Hosts> {
  const maker = await makerFor(options);
  const runFolder = await createRunFolder('hosts');
  const hosts: Host[] = [];
  const stop = async (): Promise<void> => {
    await Promise.all(hosts.map(async (host) => await host.stop()));
    maker.close();
    await rm(runFolder, { recursive: true, force: true });
  };
  const results = await Promise.allSettled(options.hosts.map(async (spec) => await maker.startOne(spec, runFolder)));
  hosts.push(...results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : [])));
  const failed = results.find((result) => result.status === 'rejected');
  if (failed !== undefined) {
    await stop();
    throw failed.reason;
  }
  const add = async (spec: HostSpec): Promise<Host> => {
    const host = await maker.startOne(spec, runFolder);
    hosts.push(host);
    return host;
  };
  return { kind: maker.kind, hosts, runFolder, add, stop };
}

async function makerFor(options: StartHostsOptions): Promise<Maker> {
  switch (options.kind) {
    case 'auto': {
      if (await canMakeNamespaces()) return await namespaceMaker(options);
      const engine = options.containerEngine ?? (await findContainerEngine());
      if (engine === undefined) return imitationMaker(options);
      try {
        return await containerMaker(options, engine);
      } catch (error) {
        options.progress(`No container can be made here, so hosts are imitated: ${messageOf(error)}`);
        return imitationMaker(options);
      }
    }
    case 'namespace':
      if (!(await canMakeNamespaces()))
        throw new AppError(
          'needs-root',
          'namespace hosts need root on Linux; in a container it must be a privileged one',
        );
      return await namespaceMaker(options);
    case 'container': {
      const engine = options.containerEngine ?? (await findContainerEngine());
      if (engine === undefined) throw new AppError('no-engine', 'neither Docker nor Podman works here');
      return await containerMaker(options, engine);
    }
    case 'imitation':
      return imitationMaker(options);
  }
}

async function namespaceMaker({ hosts, adminPublicKey, progress }: StartHostsOptions): Promise<Maker> {
  const commands: SystemCommand[] = ['ip', 'sshd', 'rsync'];
  if (hosts.some(({ admin }) => admin?.sudo === true)) commands.push('sudo');
  if (hosts.some(({ admin }) => admin?.shell === 'fish')) commands.push('fish');
  await ensureCommands(commands, progress);
  const network = await openHostNetwork();
  return {
    kind: 'namespace',
    startOne: async (spec, runFolder) => await startNamespaceHost({ ...spec, adminPublicKey, network, runFolder }),
    close: () => network.close(),
  };
}

async function containerMaker(options: StartHostsOptions, engine: ContainerEngine): Promise<Maker> {
  const { adminPublicKey, progress } = options;
  const image = await buildHostImage(engine, progress);
  return {
    kind: 'container',
    startOne: async (spec, runFolder) =>
      await startContainerHost({ ...spec, adminPublicKey, engine, image, runFolder }),
    close: () => undefined,
  };
}

function imitationMaker({ adminPublicKey, progress }: StartHostsOptions): Maker {
  progress(IMITATION_NOTICE);
  return {
    kind: 'imitation',
    startOne: async (spec, runFolder) => await startImitationHost({ ...spec, adminPublicKey, runFolder }),
    close: () => undefined,
  };
}
