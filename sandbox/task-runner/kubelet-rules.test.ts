import { describe, expect, it } from 'vitest';
import { containerFiles } from './container-files.ts';
import { parseGoDuration } from './duration.ts';
import { formatTerminationMessage, parseTerminationMessage } from './entrypoint.ts';
import { environmentOf } from './environment.ts';
import { expand } from './expand.ts';
import { replacePaths } from './folder-runtime.ts';
import { MountRetry } from './mount-retry.ts';
import { podWith } from './testing.ts';
import { contentOf, sourceOf } from './volumes.ts';

describe('the kubelet’s wait for a volume', () => {
  it('doubles from half a second to two minutes and two seconds', () => {
    const retry = new MountRetry();
    const waits: number[] = [];
    let now = 1_000_000;
    for (let i = 0; i < 11; i++) {
      retry.missed(now);
      waits.push(retry.notBeforeMs - now);
      now = retry.notBeforeMs;
    }
    expect(waits).toEqual([500, 1000, 2000, 4000, 8000, 16_000, 32_000, 64_000, 122_000, 122_000, 122_000]);
  });

  it('is neither begun anew nor made longer by a look in between', () => {
    const retry = new MountRetry();
    retry.missed(0);
    retry.missed(500);
    retry.missed(700);
    expect(retry.notBeforeMs).toBe(1500);
    retry.missed(1500);
    expect(retry.notBeforeMs).toBe(3500);
  });
});

describe('variables in commands', () => {
  const env = new Map([
    ['A', 'a'],
    ['A.B', 'dotted'],
  ]);
  it.each([
    ['$(A)', 'a'],
    ['x$(A)y$(A)', 'xaya'],
    ['$(A.B)', 'dotted'],
    ['$(MISSING) $A ${A}', '$(MISSING) $A ${A}'],
    ['$$(A)', '$(A)'],
    ['$$$(A)', '$a'],
    ['$', '$'],
    ['$(A', '$(A'],
  ])('%s becomes %s', (text, expected) => {
    expect(expand(text, env)).toBe(expected);
  });
});

describe('the environment of a container', () => {
  const pod = podWith('Pending');
  const lookup = (_kind: string, name: string, key: string): Promise<string | undefined> =>
    Promise.resolve(name === 's' && key === 'k' ? 'secret' : undefined);

  it('takes earlier variables, Secrets and the Pod’s fields', async () => {
    const env = [
      { name: 'A', value: 'a' },
      { name: 'B', value: '$(A)$(LATER)' },
      { name: 'LATER', value: 'x' },
      { name: 'C', valueFrom: { secretKeyRef: { name: 's', key: 'k' } } },
      { name: 'D', valueFrom: { secretKeyRef: { name: 's', key: 'none', optional: true } } },
      { name: 'E', valueFrom: { fieldRef: { fieldPath: 'metadata.namespace' } } },
    ];
    const result = await environmentOf({ name: 'c', image: 'i', env }, pod, lookup);
    if ('missing' in result) throw new Error(result.missing);
    expect(Object.fromEntries(result.env)).toMatchObject({
      A: 'a',
      B: 'a$(LATER)',
      C: 'secret',
      E: 'builds',
      HOME: '/root',
    });
    expect(result.env.has('D')).toBe(false);
  });

  it('says what it waits for', async () => {
    const env = [{ name: 'C', valueFrom: { configMapKeyRef: { name: 'm', key: 'k' } } }];
    const result = await environmentOf({ name: 'c', image: 'i', env }, pod, lookup);
    expect(result).toEqual({ missing: "couldn't find key k in configMap m" });
  });
});

describe('a volume', () => {
  const values = new Map([
    ['a', Buffer.from('A')],
    ['b', Buffer.from('B')],
  ]);

  it('holds a Secret, each key a file', () => {
    const source = sourceOf({ name: 'v', secret: { secretName: 's', defaultMode: 0o400 } });
    expect(source && contentOf('v', source, values)).toEqual({
      name: 'v',
      readOnly: true,
      files: [
        { path: 'a', content: Buffer.from('A'), mode: 0o400 },
        { path: 'b', content: Buffer.from('B'), mode: 0o400 },
      ],
    });
  });

  it('holds only the items asked for', () => {
    const source = sourceOf({ name: 'v', configMap: { name: 'm', items: [{ key: 'b', path: 'sub/c', mode: 0o600 }] } });
    expect(source && contentOf('v', source, values)).toMatchObject({ files: [{ path: 'sub/c', mode: 0o600 }] });
  });

  it.each([
    [{ secretName: 's' }, null, 'secret "s" not found'],
    [{ secretName: 's', items: [{ key: 'z', path: 'z' }] }, values, 'references non-existent secret key: z'],
  ])('waits for %j', (secret, found, missing) => {
    const source = sourceOf({ name: 'v', secret });
    expect(source && contentOf('v', source, found)).toMatchObject({
      missing: expect.stringContaining(missing) as string,
    });
  });

  it('is empty where its Secret may be missing', () => {
    const source = sourceOf({ name: 'v', secret: { secretName: 's', optional: true } });
    expect(source && contentOf('v', source, null)).toEqual({ name: 'v', readOnly: true, files: [] });
  });
});

describe('a termination message', () => {
  it('comes back as it was written', () => {
    const message = { results: new Map([['r', 'line\n"quoted"']]), reason: 'TimeoutExceeded', exitCode: 3 };
    expect(parseTerminationMessage(formatTerminationMessage(message))).toEqual(message);
  });

  it('is refused above 4096 bytes', () => {
    expect(() => formatTerminationMessage({ results: new Map([['r', 'x'.repeat(4096)]]) })).toThrow(/4096/);
  });
});

describe('the files that start a container', () => {
  const container = {
    name: 'step-a',
    argv: ['/bin/sh', '-c', "echo 'it'\n$HOME"],
    env: new Map([['A', "b c'd\n"]]),
    workingDir: '/workspace/my dir',
    mounts: [],
    logPath: '/log',
  };

  it('quote what comes from the Task', () => {
    const { command } = containerFiles(container, [], '/pods');
    expect(command).toContain("cd '/workspace/my dir'\n");
    expect(command).toContain(`exec env -i 'A=b c'\\''d\n' '/bin/sh' '-c' 'echo '\\''it'\\''\n$HOME'`);
  });

  it('mount what lies inside of another mount after it', () => {
    const mounts = [
      { source: 'volumes/b', mountPath: '/w/b c', isFile: false, readOnly: true },
      { source: 'volumes/a', mountPath: '/w', isFile: false, readOnly: false },
    ];
    const lines = containerFiles(container, mounts, '/pods').fstab.trim().split('\n');
    expect(lines.slice(-2)).toEqual([
      '/.pod/pods/volumes/a /w none bind,X-mount.mkdir 0 0',
      '/.pod/pods/volumes/b /w/b\\040c none bind,ro,X-mount.mkdir 0 0',
    ]);
  });
});

describe('paths without isolation', () => {
  const places = [
    { mountPath: '/workspace', place: '/t/w' },
    { mountPath: '/workspace/source', place: '/t/s' },
    { mountPath: '/ssh', place: '/t/ssh' },
  ];
  it.each([
    ['cp /ssh/id_rsa "/ssh"', 'cp /t/ssh/id_rsa "/t/ssh"'],
    ['/workspace/source/x:/workspace/y', '/t/s/x:/t/w/y'],
    ['/etc/ssh/ssh_config /sshd ./ssh', '/etc/ssh/ssh_config /sshd ./ssh'],
    ['$(pwd)/ssh ${HOME}/ssh', '$(pwd)/ssh ${HOME}/ssh'],
  ])('%s becomes %s', (text, expected) => {
    expect(replacePaths(text, places)).toBe(expected);
  });
});

describe('a duration', () => {
  it.each([
    ['1h30m', 5_400_000],
    ['2.5s', 2500],
    ['100ms', 100],
    ['0', 0],
  ])('%s is %d ms', (text, ms) => expect(parseGoDuration(text)).toBe(ms));
  it.each(['', '5', '1d', 'h'])('%s is none', (text) => expect(() => parseGoDuration(text)).toThrow(/not a duration/));
});
