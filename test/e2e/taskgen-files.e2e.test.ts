import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Host } from '#sandbox/hosts/host.ts';
import type { Step, TaskSpec } from '#sandbox/task-runner/tekton-types.ts';
import type { ConfigMap, Secret } from '#shared/kubernetes/objects.ts';
import { PATH } from '#shared/kubernetes/paths.ts';
import { BUILDS, leftOnHosts, outcomeOf, until } from './support/builds.ts';
import { type BuildCluster, SHOW, endOf, remoteTask, startBuildCluster, startRun } from './support/remote-builds.ts';

let cluster: BuildCluster;
let builder: Host;

beforeAll(async () => {
  cluster = await startBuildCluster([{ name: 'builder', platform: 'linux/arm64', slots: 4, diskMb: 4096 }]);
  [builder] = cluster.sandbox.hosts as [Host];
});

afterAll(async () => {
  await cluster?.stop();
});

const remote = (step: Partial<Step>, spec?: Partial<TaskSpec>): TaskSpec => remoteTask(cluster, step, spec);
const lastLine = (log: string): string => log.trimEnd().split('\n').at(-1) ?? '';

const WORKSPACE: Partial<TaskSpec> = { workspaces: [{ name: 'w' }] };

/** For a step on the cluster's side that finds programs in the workspace first. */
const PATH_OF_WRAPPERS = { name: 'PATH', value: '/workspace/w/bin:/usr/sbin:/usr/bin:/sbin:/bin' };

/** For the first step: a program that stands in front of the real one, of which it calls `real`. */
function wrapper(name: string, lines: string): string {
  return `mkdir -p /workspace/w/bin
cat >/workspace/w/bin/${name} <<'WRAPPER'
#!/bin/bash
real() { /usr/bin/${name} "$@"; }
first_time() { [ ! -e "/tmp/$1" ] && touch "/tmp/$1"; }
${lines}
WRAPPER
chmod +x /workspace/w/bin/${name}
`;
}

describe('a workspace', () => {
  test(
    'has after a remote step what it would have after a local one, also where the step fails',
    { timeout: 120_000 },
    async () => {
      const spec = remote(
        {
          onError: 'continue',
          workingDir: '$(workspaces.w.path)',
          script: `#!/bin/bash
umask 022
rm -r gone file-to-folder folder-to-file link
echo changed >changed
mkdir file-to-folder && echo x >file-to-folder/x
echo y >folder-to-file
ln -s /nowhere link
mkdir -p new/folder && chmod 0700 new/folder
mkfifo pipe
install -m 0600 /dev/null private && echo secret >private && chown 1234:1234 private
touch --date @1000000000 old
printf A >same-size && touch --reference=stamp same-size
exit 7
`,
        },
        WORKSPACE,
      );
      await startRun(cluster, {
        name: 'workspace',
        spec,
        before: `cd /workspace/w
mkdir -p gone/deeply untouched folder-to-file/x
for file in gone/deeply/a gone/b changed file-to-folder folder-to-file/x/y link untouched/.hidden; do echo "$file" >"$file"; done
printf B >same-size; touch stamp
chmod 0640 untouched/.hidden`,
        after: `${SHOW}cd /workspace/w
find . -printf '%P %y %m %l\\n' | sort >/tmp/tree
show tree /tmp/tree
cat changed file-to-folder/x folder-to-file private untouched/.hidden same-size >/tmp/content
show content /tmp/content
stat -c %Y old >/tmp/time
show time /tmp/time`,
      });
      const { taskRun, shown, log } = await endOf(cluster, 'workspace');
      expect(log).toMatch(/remote: error: the step's script ended with exit code 7 on u-/);
      expect(shown['tree']?.split('\n').slice(1, -1)).toEqual([
        'changed f 644 ',
        'file-to-folder d 755 ',
        'file-to-folder/x f 644 ',
        'folder-to-file f 644 ',
        'link l 777 /nowhere',
        'new d 755 ',
        'new/folder d 700 ',
        'old f 644 ',
        'private f 600 ',
        'same-size f 644 ',
        'stamp f 644 ',
        'untouched d 755 ',
        'untouched/.hidden f 640 ',
      ]);
      expect(shown['content']).toBe('changed\nx\ny\nsecret\nuntouched/.hidden\nA');
      expect(shown['time']).toBe('1000000000\n');
      expect(outcomeOf(taskRun)).toBe('True');
    },
  );
});

describe('a step that is not root on the cluster’s side', () => {
  /** The folders that Tekton and the cluster make are root's all the same. */
  const asUser = (spec: TaskSpec): TaskSpec => {
    // Ssh works for nobody whom it does not find in /etc/passwd, which is the step's own.
    const drop = `if [ "$(id -u)" = 0 ]; then
  echo user:x:1234:1234::/:/bin/sh >>/etc/passwd
  exec setpriv --reuid 1234 --regid 1234 --clear-groups "$0" "$@"
fi`;
    const steps = (spec.steps ?? []).map(({ script = '', ...step }) => ({
      ...step,
      script: script.replace('\n', `\n${drop}\n`),
    }));
    return { ...spec, steps };
  };

  test('gets results and workspaces, but for what it cannot read', { timeout: 120_000 }, async () => {
    const spec = remote(
      {
        workingDir: '/workspace/w',
        script: `ls -A >list; cat in >out; mkdir folder; rm gone
chmod 0700 .
printf done >"$(results.r.path)"`,
      },
      { ...WORKSPACE, results: [{ name: 'r' }] },
    );
    await startRun(cluster, {
      name: 'not-root',
      spec: asUser(spec),
      before: `cd /workspace/w
chmod 2777 .
mkdir -m 0700 lost+found 'x[y]*\\z' && touch lost+found/secret
echo here >in
touch gone xyz`,
      after: `${SHOW}cd /workspace/w
stat --format '%u %a %n' . out folder lost+found >/tmp/modes
show modes /tmp/modes
ls -A >/tmp/left
show left /tmp/left
show list list
show out out`,
    });
    const { shown, results, log } = await endOf(cluster, 'not-root');
    expect(results, log).toEqual({ r: 'done' });
    expect(log).toContain('remote: what cannot be read in /workspace/w is left out\n');
    expect(shown).toEqual({
      modes: '0 2777 .\n1234 644 out\n1234 2755 folder\n0 2700 lost+found\n',
      list: 'gone\nin\nlist\nlost+found\nx[y]*\\z\nxyz\n',
      out: 'here\n',
      left: 'folder\nin\nlist\nlost+found\nout\nx[y]*\\z\nxyz\n',
    });
  });

  test('fails where what was changed cannot come back, if the script did not', { timeout: 120_000 }, async () => {
    const before = 'cd /workspace/w && mkdir -m 0755 rooted && touch rooted/file';
    const start = async (name: string, script: string): Promise<void> =>
      await startRun(cluster, { name, spec: asUser(remote({ script }, WORKSPACE)), before });
    await start('not-back', 'echo changed >/workspace/w/rooted/file');
    await start('not-back-failed', 'echo changed >/workspace/w/rooted/file; exit 7');
    await start('not-gone', 'rm /workspace/w/rooted/file');
    const [back, failed, gone] = [
      await endOf(cluster, 'not-back'),
      await endOf(cluster, 'not-back-failed'),
      await endOf(cluster, 'not-gone'),
    ];
    const notCopied = /remote: error: cannot copy \/workspace\/w from u-\S+ \(rsync exit code 23\)$/;
    expect(lastLine(back.log)).toMatch(notCopied);
    expect(failed.log).toMatch(/remote: cannot copy \/workspace\/w from u-\S+ \(rsync exit code 23\)$/m);
    expect(lastLine(failed.log)).toMatch(/remote: error: the step's script ended with exit code 7 on u-\S+$/);
    expect(lastLine(gone.log)).toMatch(
      /remote: error: cannot remove \/workspace\/w\/rooted\/file, as the step's script did on u-/,
    );
    expect([back, failed, gone].map(({ taskRun }) => outcomeOf(taskRun))).toEqual(['False', 'False', 'False']);
  });
});

test('what can only be read arrives, stays as it is, and goes from the host first', { timeout: 120_000 }, async () => {
  const { client } = cluster.sandbox;
  const metadata = { name: 'read-only' };
  await client.create<Secret>(PATH.secrets(BUILDS), { metadata, stringData: { key: 'of the Secret' } });
  await client.create<ConfigMap>(PATH.configMaps(BUILDS), { metadata, data: { key: 'of the ConfigMap' } });
  const spec = remote(
    {
      env: [PATH_OF_WRAPPERS],
      volumeMounts: [
        { name: 'secret', mountPath: '/mnt/secret' },
        { name: 'config', mountPath: '/mnt/config' },
        { name: 'folder', mountPath: '/mnt/folder', readOnly: true },
      ],
      script: `cat /mnt/secret/key /mnt/config/key /workspace/bound/key /mnt/folder/closed/file >/workspace/w/read
for folder in /mnt/secret /mnt/config /workspace/bound /mnt/folder; do
  ! touch "$folder/new" || echo "$folder can be written"
done`,
    },
    {
      workspaces: [{ name: 'w' }, { name: 'bound', readOnly: true }],
      stepTemplate: { volumeMounts: [{ name: 'folder', mountPath: '/mnt/folder' }] },
      volumes: [
        { name: 'secret', secret: { secretName: 'read-only' } },
        { name: 'config', configMap: { name: 'read-only' } },
        { name: 'folder', emptyDir: {} },
      ],
    },
  );
  await startRun(cluster, {
    name: 'read-only',
    spec,
    bindings: { bound: { configMap: { name: 'read-only' } } },
    // Nobody but root can empty such a folder.
    before: `mkdir /mnt/folder/closed; printf ' in a closed folder' >/mnt/folder/closed/file; chmod 0555 /mnt/folder/closed
${wrapper(
  'rsync',
  `if [[ $* = *'unshare rsync'* ]] && first_time back; then
  for word; do
    [[ $word != --rsh=* ]] || rsh=\${word#--rsh=}
  done
  $rsh build-host "cd '$(cat /ssh/user-dir)/remote-step' && echo on the host: * scripts/*"
fi
real "$@"`,
)}`,
    after: `${SHOW}show read /workspace/w/read
find /mnt/folder /workspace/bound -name new -o -name file >/tmp/found
show found /tmp/found`,
  });
  const { shown, log, taskRun } = await endOf(cluster, 'read-only');
  expect(outcomeOf(taskRun), log).toBe('True');
  expect(shown).toEqual({
    read: 'of the Secretof the ConfigMapof the ConfigMap in a closed folder',
    found: '/mnt/folder/closed/file\n',
  });
  expect(log).not.toContain('can be written');
  expect(log).toContain(
    '\non the host: code image left noted results scripts volumes workspace workspaces scripts/container scripts/host scripts/step\n',
  );
});

describe('on the way', () => {
  test('nothing travels twice, and all of it over one connection', { timeout: 120_000 }, async () => {
    const note = 'install -m 0666 /dev/null /connections; cat >/etc/ssh/sshrc; chmod 0644 /etc/ssh/sshrc';
    await builder.exec(['sh', '-c', note], { input: 'echo "$USER $SSH_CONNECTION" >>/connections\n' });
    const spec = remote(
      {
        env: [PATH_OF_WRAPPERS],
        script: 'cd /workspace/w && echo changed >>changed && touch new && mkdir folder',
      },
      WORKSPACE,
    );
    await startRun(cluster, {
      name: 'once',
      spec,
      before: `${wrapper('rsync', 'real --itemize-changes "$@"')}cd /workspace/w; echo a >same; echo b >changed`,
    });
    const { log, taskRun } = await endOf(cluster, 'once');
    const files = (direction: string): string[] =>
      [...log.matchAll(/^(?<to>[<>])f\S+ (?<file>.*)$/gm)]
        .filter(({ groups }) => groups?.['to'] === direction)
        .map(({ groups }) => groups?.['file'] ?? '')
        .toSorted();
    expect(outcomeOf(taskRun), log).toBe('True');
    expect(files('<')).toEqual(
      ['bin/rsync', 'changed', 'config.json', 'container', 'host', 'same', 'step']
        .concat(['arguments', 'environment'])
        .toSorted(),
    );
    expect(files('>')).toEqual(['changed', 'new']);
    const { stdout } = await builder.exec(['sh', '-c', 'grep ^u- /connections; rm /connections /etc/ssh/sshrc']);
    const sessions = stdout.trim().split('\n');
    expect(sessions.length).toBeGreaterThan(5);
    expect(new Set(sessions).size, stdout).toBe(1);
  });

  test('what fails once is tried again, but never the script', { timeout: 180_000 }, async () => {
    const spec = remote({ env: [PATH_OF_WRAPPERS], script: 'echo ran >>/workspace/w/ran' }, WORKSPACE);
    await startRun(cluster, {
      name: 'retries',
      spec,
      before: `${wrapper(
        'ssh',
        `failing() { first_time "$1" || return; echo "failing: $1" >&2; exit 255; }
case $* in
  *-fNM*) failing connect ;;
  *'rsync --version'*) failing prepare ;;
  *"'pull'"*) failing pull ;;
  *"'note'"*) failing note ;;
  *"'removed'"*) failing list ;;
  *"'run'"*)
    real "$@"
    failing run
    ;;
esac
real "$@"`,
      )}${wrapper(
        'rsync',
        `case $* in
  *unshare*/workspace/w/) first_time back && exit 12 ;;
  *" /workspace/w/ "*) first_time there && exit 30 ;;
esac
real "$@"`,
      )}`,
      after: `${SHOW}show ran /workspace/w/ran`,
    });
    const { shown, log } = await endOf(cluster, 'retries');
    expect(shown, log).toEqual({ ran: 'ran\n' });
    const failed = [...log.matchAll(/^failing: (?<what>.*)$/gm)].map(({ groups }) => groups?.['what']);
    expect(failed).toEqual(['prepare', 'note', 'run', 'list']);
  });

  describe('a connection that breaks while files are copied', () => {
    /** Starts a step whose files take 15 seconds, and ends its connections once they travel. */
    const breakOff = async (name: string, alsoOnHost: string): Promise<void> => {
      await startRun(cluster, {
        name,
        spec: remote({ env: [PATH_OF_WRAPPERS], script: 'sha256sum </workspace/w/big' }, WORKSPACE),
        before: `${wrapper(
          'rsync',
          `if [[ $* = *' /workspace/w/ '* ]] && first_time there; then
  echo 'slow copying'
  real --bwlimit=200 "$@"
else
  real "$@"
fi`,
        )}head -c 3M /dev/urandom >/workspace/w/big; sha256sum </workspace/w/big`,
      });
      await until(`${name} to copy`, async () => ((await cluster.on.log(name)).includes('slow copying') ? true : null));
      const encoded = (await cluster.on.secret(name))?.data?.['host'] ?? '';
      const [account = ''] = Buffer.from(encoded, 'base64').toString().split('@');
      await builder.exec(['sh', '-c', alsoOnHost, 'sh', account]);
      // Just the connection's: podman does not get over losing its own.
      const processes = (await builder.processesOf(account)).filter(({ command }) => command.startsWith('sshd'));
      expect(processes).toHaveLength(1);
      await builder.exec(['kill', '-KILL', ...processes.map(({ pid }) => String(pid))]);
    };

    test('is made again', { timeout: 180_000 }, async () => {
      await breakOff('broken', 'true');
      const { log, taskRun } = await endOf(cluster, 'broken');
      expect(outcomeOf(taskRun), log).toBe('True');
      const [sum, ...same] = log.match(/^[0-9a-f]{64} {2}-$/gm) ?? [];
      expect(same).toEqual([sum]);
    });

    test('and cannot be made again: the host is gone', { timeout: 180_000 }, async () => {
      await breakOff('lost', 'rm "$(getent passwd "$1" | cut -d: -f6)/.ssh/authorized_keys"');
      const { log, taskRun } = await endOf(cluster, 'lost');
      expect(lastLine(log)).toMatch(/remote: error: cannot connect to u-\S+: .*Permission denied/);
      expect(outcomeOf(taskRun)).toBe('False');
    });
  });
});

test('in the end nothing is left', async () => {
  expect(await leftOnHosts(cluster.sandbox.hosts)).toEqual([]);
  expect(await cluster.on.leftInCluster()).toEqual([]);
});
