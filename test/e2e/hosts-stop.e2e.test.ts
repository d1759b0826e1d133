import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { readdir, readlink } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { mustRun } from '#sandbox/hosts/command.ts';
import { type Hosts, startHosts } from '#sandbox/hosts/start-hosts.ts';
import { spawnTied } from '#sandbox/process.ts';
import { removeStaleRunFolders } from '#sandbox/run-folder.ts';
import { type OpenSsh, createOpenSsh } from './openssh.ts';

/** The machine may have other things to do. */
const PATIENCE_MS = 20_000;

let ssh: OpenSsh;
let beside: Hosts;

beforeAll(async () => {
  ssh = await createOpenSsh();
  beside = await start('plain');
});

afterAll(async () => {
  await beside.stop();
  await ssh.remove();
});

async function start(name: string): Promise<Hosts> {
  const hosts = [{ name, platform: 'linux/arm64' }];
  return await startHosts({ kind: 'namespace', hosts, adminPublicKey: ssh.publicKey, progress: console.log });
}

describe('nothing is left', () => {
  test('of one set that stops while another beside it goes on', async () => {
    const other = await start('plain');
    const [first] = other.hosts;
    const [neighbour] = beside.hosts;
    if (first === undefined || neighbour === undefined) throw new Error('no host');
    expect(first.address).not.toBe(neighbour.address);
    expect(await ssh.run(first, 'hostname')).toMatchObject({ stdout: 'plain\n' });
    const traces = await tracesOf(other);
    expect(await remaining(traces)).toEqual(traces);
    await other.stop();
    await other.stop();
    expect(await remaining(traces)).toEqual(NOTHING);
    expect(await ssh.run(neighbour, 'echo fine')).toMatchObject({ code: 0 });
  });

  test('of a host that is hung when it is stopped', async () => {
    const other = await start('hung');
    const traces = await tracesOf(other);
    await other.hosts[0]?.setHung(true);
    await other.stop();
    expect(await remaining(traces)).toEqual(NOTHING);
  });

  test('when the process that owns the hosts is killed', async () => {
    const traces = await startInChildAndKill();
    await vi.waitFor(
      async () => expect(await remaining(traces)).toEqual({ ...NOTHING, runFolder: traces.runFolder }),
      PATIENCE_MS,
    );
    await removeStaleRunFolders();
    expect(await remaining(traces)).toEqual(NOTHING);
  });
});

interface Traces {
  /** Of the hosts; each is the address that a network card of this machine leads to. */
  readonly addresses: readonly string[];
  /** Ids of the hosts' namespaces that some process is in. */
  readonly namespaces: readonly string[];
  readonly runFolder: string | undefined;
}

const NOTHING: Traces = { addresses: [], namespaces: [], runFolder: undefined };

async function tracesOf({ hosts, runFolder }: Hosts): Promise<Traces> {
  const links = await Promise.all(
    hosts.map(async ({ exec }) => (await exec(['readlink', '/proc/1/ns/net', '/proc/1/ns/mnt'])).stdout),
  );
  const namespaces = links.flatMap((text) => text.trim().split('\n'));
  return { addresses: hosts.map(({ address }) => address), namespaces: namespaces.toSorted(), runFolder };
}

/** What of it is there still. */
async function remaining({ addresses, namespaces, runFolder }: Traces): Promise<Traces> {
  const cards = await mustRun('ip', ['-4', '-oneline', 'address']);
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const inUse = await Promise.all(
    pids.flatMap((pid) =>
      ['net', 'mnt'].map(async (kind) => await readlink(`/proc/${pid}/ns/${kind}`).catch(() => '')),
    ),
  );
  return {
    addresses: addresses.filter((address) => cards.includes(` peer ${address}/`)),
    namespaces: namespaces.filter((id) => inUse.includes(id)),
    runFolder: runFolder !== undefined && existsSync(runFolder) ? runFolder : undefined,
  };
}

async function startInChildAndKill(): Promise<Traces> {
  const module = JSON.stringify(fileURLToPath(import.meta.resolve('#sandbox/hosts/start-hosts.ts')));
  const program = `
    import { startHosts } from ${module};
    const hosts = ['one', 'two'].map((name) => ({ name, platform: 'linux/arm64' }));
    const it = await startHosts({ kind: 'namespace', hosts, adminPublicKey: 'none', progress: console.error });
    const links = await Promise.all(it.hosts.map(({ exec }) => exec(['readlink', '/proc/1/ns/net', '/proc/1/ns/mnt'])));
    const namespaces = links.flatMap(({ stdout }) => stdout.trim().split('\\n')).toSorted();
    console.log(JSON.stringify({ addresses: it.hosts.map(({ address }) => address), namespaces, runFolder: it.runFolder }));
    setInterval(() => {}, 1000);`;
  const owner = spawnTied(process.execPath, ['--input-type=module-typescript', '--eval', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  if (owner.stdout === null) throw new Error('spawned without a pipe');
  const [line]: unknown[] = await once(owner.stdout, 'data');
  const traces: Traces = JSON.parse(String(line));
  expect(await remaining(traces)).toEqual(traces);
  owner.kill('SIGKILL');
  await once(owner, 'exit');
  return traces;
}
