import { once } from 'node:events';
import { mkdir, rm } from 'node:fs/promises';
import path from 'node:path';
import ssh2, { type AuthContext, type ServerChannel } from 'ssh2';
import { generateKeyPair } from '#controller/host/keys.ts';
import { AppError } from '#shared/errors.ts';
import { spawnTied } from '../process.ts';
import { unsupportedFaults } from './container-host.ts';
import { type Host, type HostSpec, ROOT } from './host.ts';
import { type ImitatedAccount, ImitatedAccounts, readScript } from './imitation-accounts.ts';

export interface ImitationHostOptions extends HostSpec {
  readonly adminPublicKey: string;
  /** Gets the accounts' homes. */
  readonly runFolder: string;
}

/** To be shown to whoever starts them. */
export const IMITATION_NOTICE =
  'IMITATED hosts: an SSH server inside this process. Their accounts are only folders, and whatever TaskRuns do there ' +
  'runs as you, on this machine. For real accounts: root on Linux, or Docker or Podman.';

const NOT_UNDERSTOOD = 'this host is an imitation: its admin can only run the scripts of the controller\n';

/**
 * A stand-in for a host where there is neither root nor a container engine: for a person's laptop, never for tests of the
 * product. It listens on loopback and ends with this process.
 */
export async function startImitationHost(options: ImitationHostOptions): Promise<Host> {
  const { name, platform, admin = ROOT, adminPublicKey, runFolder } = options;
  const folder = path.join(runFolder, name);
  await mkdir(path.join(folder, 'home'), { recursive: true });
  const accounts = new ImitatedAccounts(path.join(folder, 'home'));
  const key = await generateKeyPair('ed25519');
  const clients = new Set<ssh2.Connection>();

  const server = new ssh2.Server({ hostKeys: [key.privateKey] }, (client) => {
    let user = '';
    clients.add(client);
    client.on('error', () => undefined);
    client.on('close', () => clients.delete(client));
    client.on('authentication', (context) => {
      user = context.username;
      const account = accounts.get(user);
      const isInTime = account === undefined || Date.now() < account.expiresAtMs;
      const expected = user === admin.name ? adminPublicKey : account?.publicKey;
      if (expected !== undefined && isInTime && proves(context, expected)) context.accept();
      else context.reject(['publickey']);
    });
    client.on('session', (acceptSession) => {
      acceptSession().on('exec', (accept, _reject, { command }) => {
        const account = accounts.get(user);
        const channel = accept();
        if (account === undefined) answerAdmin(channel, accounts).catch(() => channel.close());
        else runAsMyself(channel, command, account);
      });
    });
  });
  server.listen(options.port ?? 0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new TypeError('a TCP server without a port');

  return {
    kind: 'imitation',
    name,
    platform,
    address: '127.0.0.1',
    addressV6: undefined,
    port: address.port,
    admin: admin.name,
    hostKey: key.publicKey,
    exec: async () => {
      throw new AppError('fault-unsupported', 'an imitated host has no root that could run a command');
    },
    accounts: async () => accounts.names(),
    homes: async () => await accounts.homes(),
    processesOf: async (account) =>
      [...(accounts.get(account)?.running ?? [])].map(({ pid = 0, spawnfile }) => ({ pid, command: spawnfile })),
    leftovers: async () => {
      const homes = await accounts.homes();
      return homes.filter((home) => accounts.get(home) === undefined).map((home) => `the folder of ${home}`);
    },
    ...unsupportedFaults('imitation'),
    stop: async () => {
      server.close();
      for (const client of clients) client.end();
      await Promise.all(accounts.names().map(async (account) => await accounts.remove(account)));
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** RFC 4252, 7: a first request only asks whether the key would do and has no signature. */
function proves(context: AuthContext, expected: string): boolean {
  if (context.method !== 'publickey') return false;
  const key = ssh2.utils.parseKey(expected);
  if (key instanceof Error || !key.getPublicSSH().equals(context.key.data)) return false;
  const { blob, signature, hashAlgo } = context;
  if (signature === undefined) return true;
  // It may also be an error, whatever its type says.
  const verdict: unknown = blob !== undefined && key.verify(blob, signature, hashAlgo);
  return verdict === true;
}

async function answerAdmin(channel: ServerChannel, accounts: ImitatedAccounts): Promise<void> {
  const chunks: Buffer[] = [];
  channel.on('data', (chunk: Buffer) => chunks.push(chunk));
  await once(channel, 'end');
  const script = readScript(Buffer.concat(chunks).toString());
  if (script === undefined) {
    channel.stderr.write(NOT_UNDERSTOOD);
    channel.exit(1);
  } else {
    const answer = await accounts.carryOut(script);
    channel.write(`\n${script.parameters.get('marker') ?? ''}${JSON.stringify(answer)}\n`);
    channel.exit(0);
  }
  channel.end();
}

function runAsMyself(channel: ServerChannel, command: string, { home, running }: ImitatedAccount): void {
  const env = { PATH: '/opt/homebrew/bin:/usr/local/bin:/usr/bin:/bin', HOME: home, SHELL: '/bin/sh' };
  const child = spawnTied('/bin/sh', ['-c', command], { cwd: home, env, stdio: 'pipe' });
  running.add(child);
  const { stdin, stdout, stderr } = child;
  if (stdin === null || stdout === null || stderr === null) throw new TypeError('spawned without pipes');
  stdin.on('error', () => undefined);
  channel.on('error', () => undefined);
  channel.pipe(stdin);
  stdout.pipe(channel, { end: false });
  stderr.pipe(channel.stderr, { end: false });
  child.once('close', (code, signal) => {
    running.delete(child);
    if (signal === null) channel.exit(code ?? 1);
    else channel.exit(signal.slice('SIG'.length));
    channel.end();
  });
  child.once('error', () => channel.close());
}
