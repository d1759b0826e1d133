import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { mustRun, runCommand } from '#sandbox/hosts/command.ts';
import type { ExecResult, Host } from '#sandbox/hosts/host.ts';

/** The `ssh` of OpenSSH with a key of its own, for tests that want to see what a user sees. */
export interface OpenSsh {
  readonly publicKey: string;
  readonly privateKeyPath: string;
  /** Exit code 255 where ssh itself failed. */
  run(host: Host, command: string, options?: RunOptions): Promise<ExecResult>;
  remove(): Promise<void>;
}

export interface RunOptions {
  /** Default: the admin. */
  readonly user?: string;
  /** Default: the host's IPv4 address. */
  readonly address?: string;
  /** The only host key that is accepted. Default: the one in force. */
  readonly hostKey?: string;
  readonly input?: string;
  /** How long until it gives up on a host that does not answer. Default: 20. */
  readonly connectTimeoutS?: number;
}

export async function createOpenSsh(): Promise<OpenSsh> {
  const folder = await mkdtemp(path.join(tmpdir(), 'openssh-test-'));
  const privateKeyPath = path.join(folder, 'key');
  await mustRun('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'test', '-f', privateKeyPath]);
  const publicKey = (await readFile(`${privateKeyPath}.pub`, 'utf8')).trim();
  let calls = 0;
  return {
    publicKey,
    privateKeyPath,
    async run(host, command, { user = host.admin, input, ...options } = {}) {
      const { address = host.address, hostKey = host.hostKey, connectTimeoutS = 20 } = options;
      const knownHosts = path.join(folder, `known-hosts-${calls++}`);
      const name = host.port === 22 ? address : `[${address}]:${host.port}`;
      await writeFile(knownHosts, `${name} ${hostKey}\n`);
      const settings = {
        BatchMode: 'yes',
        ConnectTimeout: connectTimeoutS,
        GlobalKnownHostsFile: '/dev/null',
        IdentitiesOnly: 'yes',
        IdentityFile: privateKeyPath,
        Port: host.port,
        StrictHostKeyChecking: 'yes',
        User: user,
        UserKnownHostsFile: knownHosts,
      };
      const args = Object.entries(settings).flatMap(([key, value]) => ['-o', `${key}=${value}`]);
      return await runCommand('ssh', ['-F', 'none', ...args, address, command], input === undefined ? {} : { input });
    },
    remove: async () => await rm(folder, { recursive: true }),
  };
}
