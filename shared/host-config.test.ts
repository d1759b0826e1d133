import fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import { isUnusable, parseHostConfig, waitTimeoutOf } from './host-config.ts';

const KEY_TEXT = 'AAAAC3NzaC1lZDI1NTE5AAAAIKlVxJq4s4S5C3O2p1kP1lq5l1l5o5Q5q5r5s5t5u5v5';
const A = {
  'host.a.address': '10.0.0.1',
  'host.a.user': 'root',
  'host.a.platform': 'linux/arm64',
  'host.a.secret': 'admin-key',
  'host.a.concurrency': '4',
};
const PARSED_A = {
  name: 'a',
  address: '10.0.0.1',
  port: 22,
  user: 'root',
  platform: 'linux/arm64',
  secret: 'admin-key',
  concurrency: 4,
  hostKeys: [],
};

const problemsOf = (data: Record<string, string>): { key: string; message: string; fatal: boolean }[] =>
  parseHostConfig(data).problems.map(({ key, message, fatal }) => ({ key, message, fatal }));

describe('a host', () => {
  test('that is the machine of another one is used, and that is said', () => {
    const twin = Object.fromEntries(Object.entries(A).map(([key, value]) => [key.replace('.a.', '.b.'), value]));
    expect([...parseHostConfig({ ...A, ...twin }).hosts.keys()]).toEqual(['a', 'b']);
    const message = 'hosts "a" and "b" are the same machine: it gets as many TaskRuns as both may have together';
    expect(problemsOf({ ...A, ...twin })).toEqual([{ key: 'host.b.address', message, fatal: false }]);
    expect(problemsOf({ ...A, ...twin, 'host.b.port': '2222' })).toEqual([]);
  });

  test('with all that it needs', () => {
    const { hosts, problems } = parseHostConfig(A);
    expect([...hosts]).toEqual([['a', PARSED_A]]);
    expect(problems).toEqual([]);
  });

  test.each([
    ['address', 'fe80::1', { address: 'fe80::1' }],
    ['address', 'builder-7.example.com', { address: 'builder-7.example.com' }],
    ['address', ' 10.0.0.2\n', { address: '10.0.0.2' }],
    ['port', '2222', { port: 2222 }],
    ['port', '65535', { port: 65_535 }],
    ['user', 'Build_admin.1-x', { user: 'Build_admin.1-x' }],
    ['platform', 'linux/s390x', { platform: 'linux/s390x' }],
    ['platform', 'linux/x86_64', { platform: 'linux/x86_64' }],
    ['secret', 'a.b-c', { secret: 'a.b-c' }],
    ['concurrency', '0', { concurrency: 0 }],
    ['concurrency', '1000', { concurrency: 1000 }],
    ['host-key', `ssh-ed25519 ${KEY_TEXT} root@host`, { hostKeys: [`ssh-ed25519 ${KEY_TEXT}`] }],
    [
      'host-key',
      `ssh-ed25519   ${KEY_TEXT}\n\n  ecdsa-sha2-nistp256 ${KEY_TEXT}=\n`,
      { hostKeys: [`ssh-ed25519 ${KEY_TEXT}`, `ecdsa-sha2-nistp256 ${KEY_TEXT}=`] },
    ],
    ['host-key', '', { hostKeys: [] }],
  ])('whose %s is %j', (property, value, change) => {
    const { hosts, problems } = parseHostConfig({ ...A, [`host.a.${property}`]: value });
    expect(problems).toEqual([]);
    expect(hosts.get('a')).toEqual({ ...PARSED_A, ...change });
  });

  test.each([
    ['address', ''],
    ['address', '10.0.0.300'],
    ['address', '10.0.0'],
    ['address', '[fe80::1]'],
    ['address', 'fe80::1%eth0; reboot'],
    ['address', '-oProxyCommand=x'],
    ['address', 'a b'],
    ['address', 'a'.repeat(254)],
    ['port', ''],
    ['port', '0'],
    ['port', '65536'],
    ['port', '22 '.repeat(2)],
    ['port', '0x16'],
    ['port', '1e3'],
    ['user', ''],
    ['user', '-root'],
    ['user', 'root; reboot'],
    ['user', '$(id)'],
    ['user', 'a'.repeat(33)],
    ['platform', ''],
    ['platform', 'linux'],
    ['platform', 'Linux/arm64'],
    ['platform', 'linux/arm64/v8'],
    ['platform', `linux/${'a'.repeat(64)}`],
    ['secret', ''],
    ['secret', '../admin-key'],
    ['secret', 'Key'],
    ['secret', 'a'.repeat(254)],
    ['concurrency', ''],
    ['concurrency', '-1'],
    ['concurrency', '1.5'],
    ['concurrency', '1001'],
    ['concurrency', 'four'],
    ['concurrency', '9'.repeat(400)],
    ['host-key', 'ssh-dss AAAA'],
    ['host-key', KEY_TEXT],
    ['host-key', `ssh-ed25519 ${KEY_TEXT}\nrubbish`],
    ['host-key', `ssh-ed25519 ${KEY_TEXT}$(id)`],
  ])('whose %s is %j is left out, and that is said of this key only', (property, value) => {
    const config = parseHostConfig({ ...A, ...renamed('b'), [`host.a.${property}`]: value });
    expect([...config.hosts.keys()]).toEqual(['b']);
    expect(config.leftOut).toEqual(new Map([['a', property === 'platform' ? undefined : PARSED_A.platform]]));
    expect(config.problems.map(({ key, fatal }) => ({ key, fatal }))).toEqual([
      { key: `host.a.${property}`, fatal: true },
    ]);
    expect(config.problems[0]?.message).not.toContain('\n');
    expect(config.problems[0]?.message.length).toBeLessThan(250);
  });

  test('that lacks something is left out, and all that it lacks is named at once', () => {
    expect(problemsOf({ 'host.a.address': '10.0.0.1', 'host.a.user': 'root' })).toEqual([
      {
        key: 'host.a',
        message: 'host a lacks "host.a.platform", "host.a.secret", "host.a.concurrency"',
        fatal: true,
      },
    ]);
  });

  test('with a property that nobody knows is used all the same', () => {
    const { hosts, problems } = parseHostConfig({ ...A, 'host.a.colour': 'blue' });
    expect(hosts.get('a')).toEqual(PARSED_A);
    expect(problems).toMatchObject([{ key: 'host.a.colour', fatal: false }]);
  });

  test.each(['constructor', 'my.host', 'A_b', '1', `a${'b'.repeat(62)}`])('may be called %s', (name) => {
    expect([...parseHostConfig(renamed(name)).hosts.keys()]).toEqual([name]);
  });

  test.each(['__proto__', '-a', 'a-', 'a,b', 'a b', '$(id)', 'a'.repeat(64), 'höst'])(
    'may not be called %s',
    (name) => {
      const { hosts, problems } = parseHostConfig(renamed(name));
      expect(hosts.size).toBe(0);
      expect(problems).toMatchObject([{ key: `host.${name}`, fatal: true }]);
    },
  );

  test.each(['host.', 'host.a', 'host..', 'host..address'])('%j is not the key of one', (key) => {
    expect(problemsOf({ [key]: 'x' })).toMatchObject([{ key, fatal: true }]);
  });
});

describe('local platforms', () => {
  test('are a list with commas, blanks or lines', () => {
    const { localPlatforms, problems } = parseHostConfig({
      'local-platforms': 'linux/x86_64, local\nlinux/amd64,,localhost',
    });
    expect([...localPlatforms]).toEqual(['linux/x86_64', 'local', 'linux/amd64', 'localhost']);
    expect(problems).toEqual([]);
  });

  test('that are none are named, and the others used', () => {
    const { localPlatforms, problems } = parseHostConfig({ 'local-platforms': 'linux/x86_64,WINDOWS' });
    expect([...localPlatforms]).toEqual(['linux/x86_64']);
    expect(problems).toMatchObject([{ key: 'local-platforms', fatal: true }]);
    expect(problems[0]?.message).toContain('"WINDOWS"');
  });
});

describe('wait-timeout', () => {
  test('of a platform comes before that for all', () => {
    const config = parseHostConfig({ 'wait-timeout': '1h', 'wait-timeout.linux-arm64': '30s', 'wait-timeout.x': '2m' });
    expect(waitTimeoutOf(config, 'linux/arm64')).toBe(30_000);
    expect(waitTimeoutOf(config, 'linux/s390x')).toBe(3_600_000);
    expect(config.problems).toEqual([]);
  });

  test('is endless where nobody says anything', () => {
    expect(waitTimeoutOf(parseHostConfig(A), 'linux/arm64')).toBeUndefined();
  });

  test.each(['', '5', '-1s', '1.5h', '10 m', '1d', '9999999s'])('is not %j', (value) => {
    const config = parseHostConfig({ 'wait-timeout': value });
    expect(config.waitTimeoutMs.size).toBe(0);
    expect(config.problems).toMatchObject([{ key: 'wait-timeout', fatal: true }]);
  });
});

test.each([
  'dynamic.linux-arm64.type',
  'dynamic-platforms',
  'additional-instance-tags',
  'instance-tag',
  'colour',
  'Host.a',
])('key %s is warned of only', (key) => {
  const { hosts, problems } = parseHostConfig({ ...A, [key]: 'x' });
  expect(hosts.size).toBe(1);
  expect(problems).toMatchObject([{ key, fatal: false }]);
});

test.each<[string, Record<string, string>, boolean]>([
  ['nothing at all, which empties it on purpose', {}, false],
  ['a host', A, false],
  ['a local platform alone', { 'local-platforms': 'local' }, false],
  ['a good host and a bad one', { ...A, 'host.b.address': '!' }, false],
  ['a bad host alone', { 'host.b.address': '!' }, true],
  ['keys that nobody knows alone', { hosts: 'a, b' }, true],
])('a list with %s: unusable %3$s', (_what, data, unusable) => {
  expect(isUnusable(parseHostConfig(data))).toBe(unusable);
});

test('whatever is in it: it never throws, each host is one that was meant, and each problem is of a key and has one line', () => {
  const property = fc.constantFrom('address', 'port', 'user', 'platform', 'secret', 'concurrency', 'host-key', 'x');
  const odd = fc.constantFrom('\n', '\u0000', '\u2028', '🏗', '$(id)', "'", 'a'.repeat(300));
  const key = fc.oneof(
    fc.string(),
    fc.constantFrom('local-platforms', 'wait-timeout', 'wait-timeout.linux-arm64', 'dynamic.x', 'host.', 'host.a'),
    fc.tuple(fc.constantFrom('a', 'b', 'a.b', '__proto__'), property).map(([name, part]) => `host.${name}.${part}`),
  );
  const value = fc.oneof(
    fc.string(),
    odd,
    fc.constantFrom('10.0.0.1', 'root', 'linux/arm64', 'key', '4', '22', '1h', `ssh-ed25519 ${KEY_TEXT}`),
  );
  fc.assert(
    fc.property(fc.dictionary(key, value, { maxKeys: 12 }), (change) => {
      const data = { ...A, ...change };
      const { hosts, problems } = parseHostConfig(data);
      const strange = [...hosts].filter(
        ([name, host]) =>
          host.name !== name ||
          !Object.hasOwn(data, `host.${name}.address`) ||
          !(host.concurrency >= 0 && host.port > 0) ||
          /[\s;$'"]/.test(host.address + host.user + host.secret),
      );
      const keys = Object.keys(data);
      const unclear = problems.filter(
        ({ key: named, message }) => !keys.some((given) => given.startsWith(named)) || !/^[^\n]+$/.test(message),
      );
      expect([...strange, ...unclear]).toEqual([]);
    }),
    { numRuns: 200 },
  );
});

function renamed(name: string): Record<string, string> {
  return Object.fromEntries(
    Object.entries(A).map(([full, value]) => [full.replace('host.a.', () => `host.${name}.`), value]),
  );
}
