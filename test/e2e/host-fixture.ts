import { randomUUID } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { accountName } from '#controller/host/account-name.ts';
import { type AccountLimits, HostError, type HostOperations } from '#controller/host/contract.ts';
import { type HostOptions, createHostOperations } from '#controller/host/host.ts';
import { type KeyPair, generateKeyPair } from '#controller/host/keys.ts';
import { knownHosts } from '#controller/host/known-hosts.ts';
import { runCommand } from '#sandbox/hosts/command.ts';
import type { ExecResult, Host, HostSpec } from '#sandbox/hosts/host.ts';
import { type Hosts, startHosts } from '#sandbox/hosts/start-hosts.ts';
import { systemClock } from '#shared/clock.ts';
import { createLog } from '#shared/log.ts';

export const HOUR_MS = 3_600_000;

/** A TaskRun's account, as far as a test needs it. */
export interface TestAccount {
  readonly account: string;
  readonly taskRunUid: string;
  readonly key: KeyPair;
  readonly home: string;
}

export interface CreateOptions {
  readonly expiresAtMs?: number;
  readonly limits?: AccountLimits;
}

/** Real hosts, the controller's side of SSH, and OpenSSH's own client. */
export interface HostFixture {
  readonly adminKey: KeyPair;
  readonly running: Hosts;
  host(name: string): Host;
  /** Operations on that host; closed with the fixture. */
  operations(host: Host, options?: Partial<HostOptions>): HostOperations;
  /** Makes an account for a TaskRun that nobody has seen before. */
  create(operations: HostOperations, options?: CreateOptions): Promise<TestAccount>;
  /** Logs in with OpenSSH, which checks the host key. Exit code 255 where ssh itself failed. */
  login(host: Host, account: TestAccount, command: string, address?: string): Promise<ExecResult>;
  stop(): Promise<void>;
}

export async function startHostFixture(specs: readonly HostSpec[]): Promise<HostFixture> {
  const adminKey = await generateKeyPair('ed25519');
  const running = await startHosts({
    kind: 'auto',
    hosts: specs,
    adminPublicKey: adminKey.publicKey,
    progress: console.log,
  });
  const folder = await mkdtemp(path.join(tmpdir(), 'mpc-host-test-'));
  const opened: HostOperations[] = [];
  let logins = 0;
  return {
    adminKey,
    running,
    host: (name) => {
      const found = running.hosts.find((one) => one.name === name);
      if (found === undefined) throw new Error(`no host ${name}`);
      return found;
    },
    operations: (host, options) => {
      const operations = createHostOperations({
        endpoint: {
          address: host.address,
          port: host.port,
          user: host.admin,
          secret: 'host-keys',
          hostKeys: [host.hostKey],
        },
        adminKey: () => adminKey.privateKey,
        policy: 'strict',
        instance: 'installation-1',
        onFirstKey: async () => await Promise.reject(new Error('no first key is expected')),
        clock: systemClock,
        log: createLog({ level: 'error' }),
        ...options,
      });
      opened.push(operations);
      return operations;
    },
    create: async (operations, { expiresAtMs = Date.now() + HOUR_MS, limits = {} } = {}) => {
      const taskRunUid = randomUUID();
      const account = accountName(taskRunUid);
      const key = await generateKeyPair('ed25519');
      const { publicKey } = key;
      const { home } = await operations.createAccount({ account, taskRunUid, publicKey, expiresAtMs, limits });
      return { account, taskRunUid, key, home };
    },
    login: async (host, { account, key }, command, address = host.address) => {
      const identity = path.join(folder, `key-${logins}`);
      const known = path.join(folder, `known-hosts-${logins++}`);
      await writeFile(identity, key.privateKey, { mode: 0o600 });
      await writeFile(known, knownHosts({ address, port: host.port, hostKeys: [host.hostKey] }));
      const settings = [
        'BatchMode=yes',
        'ConnectTimeout=20',
        'GlobalKnownHostsFile=/dev/null',
        'IdentitiesOnly=yes',
        'StrictHostKeyChecking=yes',
        `UserKnownHostsFile=${known}`,
      ];
      const args = ['-F', 'none', ...settings.flatMap((setting) => ['-o', setting]), '-p', String(host.port)];
      return await runCommand('ssh', [...args, '-i', identity, '-l', account, address, command]);
    },
    stop: async () => {
      for (const operations of opened) operations.close();
      await running.stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** Runs a script as root on the host, past SSH. */
export async function onHost(host: Host, script: string): Promise<string> {
  const { code, stdout, stderr } = await host.exec(['sh', '-c', script]);
  if (code !== 0) throw new Error(`on ${host.name}: exit code ${code}: ${stderr}`);
  return stdout;
}

export async function hostErrorOf(work: Promise<unknown>): Promise<HostError> {
  const error: unknown = await work.then(
    () => new Error('it succeeded'),
    (caught: unknown) => caught,
  );
  if (error instanceof HostError) return error;
  throw error;
}
