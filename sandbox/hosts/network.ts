import { once } from 'node:events';
import { type Server, createServer } from 'node:net';
import { AppError } from '#shared/errors.ts';
import { mustRun } from './command.ts';

/** A cable between this machine and one host. */
export interface Link {
  /** Name of the card on this machine's side; it is `eth0` on the host's. */
  readonly card: string;
  readonly hostV4: string;
  readonly peerV4: string;
  /** Undefined where this machine has no IPv6. */
  readonly hostV6: string | undefined;
  readonly peerV6: string | undefined;
}

/** Addresses for up to 1,000 hosts that nobody else on this machine uses. */
export interface HostNetwork {
  nextLink(): Link;
  close(): void;
}

const NETWORKS = 64;
const HOSTS_PER_NETWORK = 1000;

/**
 * Network n is 10.213.4n.0/22 and fd6d:7063:n+1::/48. It is claimed by listening on a socket without a file: the kernel lets
 * only one process do it, and lets go of it when that process ends, however it ends.
 *
 * @throws AppError `no-network` when all are taken.
 */
export async function openHostNetwork(): Promise<HostNetwork> {
  const inUse = `${await mustRun('ip', ['-oneline', 'link'])} ${await mustRun('ip', ['route', 'show', 'table', 'all'])}`;
  const hasV6 = (await mustRun('ip', ['-6', 'address', 'show', 'dev', 'lo'])).includes('::1');
  for (let n = 0; n < NETWORKS; n++) {
    const claim = isInUse(inUse, n) ? undefined : await claimNetwork(n);
    if (claim !== undefined) return networkOf(n, hasV6, claim);
  }
  throw new AppError('no-network', `all ${NETWORKS} networks for sandbox hosts are in use (10.213.0.0/16)`);
}

/** Also while the kernel is still clearing away the cards of a sandbox that was killed a moment ago. */
function isInUse(cardsAndRoutes: string, n: number): boolean {
  const addresses = [0, 1, 2, 3].map((i) => ` 10.213.${4 * n + i}.`);
  return [` ${cardPrefix(n)}`, ...addresses].some((text) => cardsAndRoutes.includes(text));
}

function cardPrefix(n: number): string {
  return `mpc${n}-`;
}

async function claimNetwork(n: number): Promise<Server | undefined> {
  const server = createServer();
  try {
    server.listen({ path: `\0mpc-sandbox-network-${n}` });
    await once(server, 'listening');
    return server.unref();
  } catch {
    return undefined;
  }
}

function networkOf(n: number, hasV6: boolean, claim: Server): HostNetwork {
  let hosts = 0;
  const v4 = (i: number): string => `10.213.${4 * n + Math.floor(i / 256)}.${i % 256}`;
  const v6 = (i: number): string => `fd6d:7063:${(n + 1).toString(16)}::${i.toString(16)}`;
  return {
    nextLink() {
      if (hosts === HOSTS_PER_NETWORK) throw new AppError('no-network', `a sandbox has at most ${hosts} hosts`);
      hosts++;
      return {
        card: `${cardPrefix(n)}${hosts}`,
        peerV4: v4(1),
        hostV4: v4(hosts + 1),
        peerV6: hasV6 ? v6(1) : undefined,
        hostV6: hasV6 ? v6(hosts + 1) : undefined,
      };
    },
    close: () => claim.close(),
  };
}

/** Plugs the cable in: `pid` is a process in the host's network. It goes with that network, or by {@link unplug}. */
export async function plug({ card, hostV4, peerV4, hostV6, peerV6 }: Link, pid: number): Promise<void> {
  const commands = [
    `link add ${card} type veth peer name eth0 netns ${pid}`,
    `address add ${peerV4} peer ${hostV4} dev ${card}`,
    `link set ${card} up`,
    ...(hostV6 === undefined ? [] : [`address add ${peerV6} dev ${card} nodad`, `route add ${hostV6} dev ${card}`]),
  ];
  await mustRun('ip', ['-batch', '-'], { input: `${commands.join('\n')}\n` });
}

/** Does nothing where it is gone already. */
export async function unplug({ card }: Link): Promise<void> {
  await mustRun('ip', ['-force', '-batch', '-'], { input: `link delete ${card}\n` }).catch(() => undefined);
}
