import { readFile, readdir } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Exec, Faults } from './host.ts';
import type { Link } from './network.ts';
import { shellFaults, shellOn } from './shell-faults.ts';
import { waitForSsh, waitForTcp } from './wait-for-ssh.ts';

interface Parts {
  readonly exec: Exec;
  /** Of the host's process 1, as this machine counts. */
  readonly pid: number;
  readonly link: Link;
  /** False once the host has ended: its processes' numbers may be others' then. */
  readonly isUp: () => boolean;
  readonly port: number;
}

/** The network card as the host sees it: were it the other end, packets would leave by this machine's default route. */
const CARD_DOWN = 'ip link set eth0 down';
const cardUp = ({ peerV6 }: Link): string =>
  `ip link set eth0 up${peerV6 === undefined ? '' : ` && ip route replace ${peerV6} dev eth0`}`;

/** A file system cannot be made smaller than what lies on it: it is shrunk to just that. */
const FULL = `[ -e /run/disk-size ] && exit
set -- $(stat --file-system --format '%s %b %f %c %d' /run/disk)
echo "size=$(($2 * $1)),nr_inodes=$4" >/run/disk-size
mount -o "remount,size=$((($2 - $3) * $1)),nr_inodes=$(($4 - $5))" /run/disk`;
const NOT_FULL = `[ ! -e /run/disk-size ] || mount -o "remount,$(cat /run/disk-size)" /run/disk
rm -f /run/disk-size`;

/** A second mount on top: changing the first one fails while a file on it is open for writing. */
const READ_ONLY_HOME = `[ -e /run/home-read-only ] || {
  mount --bind /home /home && mount -o remount,bind,ro /home && : >/run/home-read-only
}`;
const WRITABLE_HOME = `[ ! -e /run/home-read-only ] || umount --lazy /home
rm -f /run/home-read-only`;

/** Kill(1): -1 is everybody but process 1 and the one that asks. */
const REBOOT = `${CARD_DOWN}
kill -9 -1
find /tmp /dev/shm /dev/mqueue /run/user -xdev -mindepth 1 -delete
ipcrm --all`;

/** Long enough for one answer, too short for two. */
const RUN_MS = 1;

export function namespaceFaults({ exec, pid, link, isUp, port }: Parts): Faults {
  const shell = shellOn(exec);
  const signal = async (name: StopOrGoOn): Promise<void> => {
    if (isUp()) await signalAll(pid, name);
  };
  const addresses = [link.hostV4, ...(link.hostV6 === undefined ? [] : [link.hostV6])];
  let stutter: Stutter | undefined;
  return {
    setUnreachable: async (on) => {
      await shell(on ? CARD_DOWN : cardUp(link));
      // The kernel takes up to a second to notice that a card is up.
      if (!on) await Promise.all(addresses.map(async (address) => await waitForTcp(address, port)));
    },
    setSlow: async (pauseMs) => {
      await stutter?.stop();
      stutter = pauseMs === 0 ? undefined : startStutter(signal, pauseMs);
    },
    setHung: async (on) => await signal(on ? 'SIGSTOP' : 'SIGCONT'),
    setFull: async (on) => void (await shell(on ? FULL : NOT_FULL)),
    setReadOnlyHome: async (on) => void (await shell(on ? READ_ONLY_HOME : WRITABLE_HOME)),
    ...shellFaults(exec),
    reboot: async () => {
      await shell(`${REBOOT}\n${cardUp(link)}`);
      await waitForSsh(link.hostV4, port);
    },
  };
}

type StopOrGoOn = 'SIGSTOP' | 'SIGCONT';

interface Stutter {
  stop(): Promise<void>;
}

/**
 * Lets the host run for just a moment at a time. Not every kernel can delay packets (tc-netem(8)), and this needs nothing of
 * it.
 */
function startStutter(signal: (name: StopOrGoOn) => Promise<void>, pauseMs: number): Stutter {
  const stopping = new AbortController();
  const run = async (): Promise<void> => {
    while (!stopping.signal.aborted) {
      await signal('SIGSTOP');
      await sleep(pauseMs, undefined, { signal: stopping.signal, ref: false }).catch(() => undefined);
      await signal('SIGCONT');
      await sleep(RUN_MS);
    }
  };
  const ended = run();
  return {
    stop: async () => {
      stopping.abort();
      await ended;
    },
  };
}

/** To all that descend from `pid`, again until no new ones turn up: a parent that runs may just be making one. */
async function signalAll(pid: number, signal: StopOrGoOn): Promise<void> {
  const done = new Set<number>();
  for (;;) {
    const fresh = (await descendantsOf(pid)).filter((found) => !done.has(found));
    if (fresh.length === 0) return;
    for (const found of fresh) {
      done.add(found);
      try {
        process.kill(found, signal);
      } catch {
        // It has ended meanwhile.
      }
    }
  }
}

async function descendantsOf(pid: number): Promise<number[]> {
  const threads = await readdir(`/proc/${pid}/task`).catch(() => []);
  const lists = await Promise.all(
    threads.map(async (thread) => await readFile(`/proc/${pid}/task/${thread}/children`, 'utf8').catch(() => '')),
  );
  const children = lists.flatMap((list) => list.split(' ').filter(Boolean).map(Number));
  const deeper = await Promise.all(children.map(descendantsOf));
  return [...children, ...deeper.flat()];
}
