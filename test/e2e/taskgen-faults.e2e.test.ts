import { once } from 'node:events';
import { createServer } from 'node:https';
import { text as textOf } from 'node:stream/consumers';
import ssh2 from 'ssh2';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { createAuthority } from '#sandbox/control-plane/certificates.ts';
import { expectSuccess } from '#sandbox/hosts/command.ts';
import type { Host } from '#sandbox/hosts/host.ts';
import type { Step, TaskSpec } from '#sandbox/task-runner/tekton-types.ts';
import type { Secret } from '#shared/kubernetes/objects.ts';
import { PATH } from '#shared/kubernetes/paths.ts';
import { SECRET_PREFIX } from '#shared/names.ts';
import { BUILDS, leftOnHosts, outcomeOf, until } from './support/builds.ts';
import {
  type BuildCluster,
  type Ended,
  endOf,
  ended,
  remoteTask,
  startBuildCluster,
  startRun,
} from './support/remote-builds.ts';

let cluster: BuildCluster;

beforeAll(async () => {
  cluster = await startBuildCluster([
    { name: 'builder', platform: 'linux/arm64', slots: 4, diskMb: 2048 },
    { name: 'small', platform: 'linux/ppc64le', slots: 1, diskMb: 300, port: 2222 },
    { name: 'shaky', platform: 'linux/s390x', slots: 1, diskMb: 1024 },
  ]);
});

afterAll(async () => {
  await cluster?.stop();
});

function hostOf(platform: string): Host {
  const host = cluster.sandbox.hosts.find((candidate) => candidate.platform === platform);
  if (host === undefined) throw new Error(`no host of ${platform}`);
  return host;
}

const remote = (step: Partial<Step>, spec?: Partial<TaskSpec>): TaskSpec => remoteTask(cluster, step, spec);

const WORKSPACE: Partial<TaskSpec> = { workspaces: [{ name: 'w' }] };

describe('a Secret that somebody else has made', () => {
  const HOME = '/home/other';
  const key = ssh2.utils.generateKeyPairSync('ed25519', { comment: 'other' });

  beforeAll(async () => {
    const make = `useradd --create-home other && mkdir -m 0700 ${HOME}/.ssh && cat >${HOME}/.ssh/authorized_keys && chown -R other: ${HOME}/.ssh`;
    expectSuccess([make], await hostOf('linux/arm64').exec(['sh', '-c', make], { input: `${key.public}\n` }));
  });

  const run = async (name: string, data: Record<string, string>): Promise<Ended> => {
    await cluster.sandbox.client.create<Secret>(PATH.secrets(BUILDS), {
      metadata: { name: `${SECRET_PREFIX}${name}` },
      stringData: { host: `other@${hostOf('linux/arm64').address}`, 'user-dir': HOME, ...data },
    });
    await startRun(cluster, { name, spec: remote({ script: 'id -u; echo arrived' }) });
    return await endOf(cluster, name);
  };

  test('may leave the host’s key out: it is believed once', { timeout: 120_000 }, async () => {
    expect((await run('no-known-hosts', { id_rsa: key.private })).log).toContain('\n0\narrived\n');
  });

  test('must not be wrong about the host’s key', { timeout: 120_000 }, async () => {
    const other = ssh2.utils.generateKeyPairSync('ed25519').public;
    const known = `${hostOf('linux/arm64').address} ${other}\n`;
    const { log } = await run('wrong-known-hosts', { id_rsa: key.private, known_hosts: known });
    expect(log).toMatch(/remote: error: cannot connect to other@\S+: Host key verification failed\.\r?\n$/);
  });

  test('may have a one-time password instead of a key', { timeout: 120_000 }, async () => {
    const authority = await createAuthority(new Date());
    const { certificate, privateKey } = await authority.issueServer();
    const asked: string[] = [];
    const server = createServer({ cert: certificate, key: privateKey }, (request, response) => {
      void textOf(request).then((body) => {
        asked.push(`${request.method} ${body}`);
        response.end(key.private.trimEnd());
      });
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    try {
      const { port } = z.object({ port: z.number() }).parse(server.address());
      const otp = { otp: 'once only', 'otp-ca': authority.caPem, 'otp-server': `https://127.0.0.1:${port}/otp` };
      expect((await run('otp', otp)).log).toContain('\n0\narrived\n');
      expect(asked).toEqual(['POST once only']);
    } finally {
      server.close();
    }
  });

  test('its account is nobody’s to remove but its maker’s', async () => {
    const host = hostOf('linux/arm64');
    expect((await host.exec(['ls', HOME])).stdout).toBe('remote-step\n');
    const pids = (await host.processesOf('other')).map(({ pid }) => String(pid));
    await host.exec(['kill', '-KILL', ...pids]);
    await until('account to go', async () =>
      (await host.exec(['userdel', '--remove', 'other'])).code === 0 ? true : null,
    );
  });
});

describe('what goes wrong', () => {
  const lastLine = (log: string): string => log.trimEnd().split('\n').at(-1) ?? '';
  const runsOn = async (host: Host, what: string): Promise<boolean> => {
    const commands = await host.exec(['sh', '-c', 'cat /proc/[0-9]*/cmdline | tr "\\0" " "']);
    return commands.stdout.includes(what);
  };
  const running = async (name: string): Promise<void> => {
    await until(
      `${name} to run`,
      async () => ((await cluster.on.log(name)).includes('\nrunning\n') ? true : null),
      120_000,
    );
  };
  const gone = async (host: Host, what: string): Promise<void> => {
    await until(`${what} to be gone`, async () => ((await runsOn(host, what)) ? null : true));
  };
  // Started first: both take a while. The step has long enough for its image to come.
  let silent: Promise<void>;
  let timedOut: Promise<void>;

  beforeAll(async () => {
    const step = { script: 'echo; echo running; sleep 1003', timeout: '40s' };
    await startRun(cluster, { name: 'timed-out', spec: remote(step) });
    timedOut = running('timed-out').then(async () => await ended(cluster, 'timed-out'));
    const spec = remote({ script: 'echo; echo running; sleep 1001' });
    await startRun(cluster, { name: 'silent', platform: 'linux/s390x', spec });
    await running('silent');
    await hostOf('linux/s390x').setUnreachable(true);
    silent = ended(cluster, 'silent');
  });

  test('a TaskRun that is cancelled: its container ends at once', { timeout: 180_000 }, async () => {
    await startRun(cluster, { name: 'cancelled', spec: remote({ script: 'echo; echo running; sleep 1002' }) });
    await running('cancelled');
    const host = hostOf('linux/arm64');
    expect(await runsOn(host, 'sleep 1002')).toBe(true);
    await cluster.on.cancel('cancelled');
    await gone(host, 'sleep 1002');
    const { log, taskRun } = await endOf(cluster, 'cancelled');
    expect(lastLine(log)).toMatch(/remote: error: the step was cancelled$/);
    expect(taskRun.status?.conditions?.[0]?.reason).toBe('TaskRunCancelled');
  });

  test('a host on another port, without room for the files', { timeout: 180_000 }, async () => {
    const spec = remote({ script: 'true' }, WORKSPACE);
    await startRun(cluster, {
      name: 'no-room',
      platform: 'linux/ppc64le',
      spec,
      before: 'truncate -s 400M /workspace/w/big',
    });
    const { log, taskRun } = await endOf(cluster, 'no-room');
    expect(lastLine(log)).toMatch(/remote: error: cannot copy \/workspace\/w to u-\S+ \(rsync exit code 1[12]\)$/);
    expect(outcomeOf(taskRun)).toBe('False');
  });

  test('no host: the Secret’s text is what the step says', { timeout: 120_000 }, async () => {
    await startRun(cluster, { name: 'no-host', platform: 'linux/riscv64', spec: remote({ script: 'true' }) });
    const { log, taskRun } = await endOf(cluster, 'no-host');
    expect(lastLine(log)).toContain('No build host is configured for the platform "linux/riscv64"');
    expect(outcomeOf(taskRun)).toBe('False');
  });

  test('localhost: the step runs where it is, with what a local one has', { timeout: 120_000 }, async () => {
    const variables = ['host', 'paths', 'private', 'code', 'IMAGE'];
    const spec = remote(
      {
        script: '#!/bin/bash\necho "$host $paths $private $code $IMAGE <$1>" >"$(results.r.path)"; pwd; exit 3',
        args: ['a  b'],
        onError: 'continue',
        env: variables.map((name) => ({ name, value: `${name}'s` })),
      },
      { ...WORKSPACE, results: [{ name: 'r' }] },
    );
    await startRun(cluster, {
      name: 'here',
      platform: 'linux/x86_64',
      spec,
      params: { IMAGE_APPEND_PLATFORM: 'true' },
    });
    await startRun(cluster, {
      name: 'command-here',
      platform: 'linux/x86_64',
      spec: remote({ command: ['printf', '<%s>'], args: ['a b'] }),
    });
    const { log, results, taskRun } = await endOf(cluster, 'here');
    expect(log).toMatch(/remote: the host is localhost: the step runs right here\n\/\n$/);
    expect(results).toEqual({ r: "host's paths's private's code's IMAGE's-linux-x86-64 <a  b>\n" });
    expect(outcomeOf(taskRun)).toBe('True');
    expect((await endOf(cluster, 'command-here')).log).toContain('<a b>');
  });

  test('a step that is killed: its container ends with the connection', { timeout: 180_000 }, async () => {
    await timedOut;
    await gone(hostOf('linux/arm64'), 'sleep 1003');
    const { log, taskRun } = await endOf(cluster, 'timed-out');
    expect(log).not.toContain('remote: done');
    expect(outcomeOf(taskRun)).toBe('False');
  });

  test('a host that falls silent in the middle', { timeout: 300_000 }, async () => {
    await silent;
    expect(lastLine(await cluster.on.log('silent'))).toMatch(
      /remote: error: lost the connection to u-\S+ while the step's script ran$/,
    );
    const shaky = hostOf('linux/s390x');
    await shaky.setUnreachable(false);
    await endOf(cluster, 'silent');
    expect(await runsOn(shaky, 'sleep 1001')).toBe(false);
  });

  test('in the end nothing is left on any host', async () => {
    expect(await leftOnHosts(cluster.sandbox.hosts)).toEqual([]);
    expect(await cluster.on.leftInCluster()).toEqual([]);
  });
});
