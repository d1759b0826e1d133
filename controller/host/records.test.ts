import { describe, expect, test } from 'vitest';

import type { Endpoint } from './contract.ts';
import { spec } from './fleet.testing.ts';
import { debtKey, parseDebt } from './ledger.ts';
import { endpointOf, isSameMachine, parseRecord, withEndpoint } from './records.ts';

const KEY = 'ssh-ed25519 AAAA';
const OTHER_KEY = 'ssh-ed25519 BBBB';
const HERE: Endpoint = { address: '10.0.0.1', port: 22, user: 'root', secret: 'key', hostKeys: [KEY] };
const THERE: Endpoint = { ...HERE, address: '10.0.0.2' };

describe('where a host is by its entry', () => {
  const entry = spec('a', { address: HERE.address, hostKeys: [] });

  test('has the pinned keys, whatever was trusted before', () => {
    expect(endpointOf({ ...entry, hostKeys: [OTHER_KEY] }, [{ endpoints: [HERE] }]).hostKeys).toEqual([OTHER_KEY]);
  });

  test('has the keys that were trusted on that machine, under whatever name and login', () => {
    const records = [{ endpoints: [THERE] }, { endpoints: [THERE, { ...HERE, user: 'builder', secret: 'old' }] }];
    expect(endpointOf(entry, records)).toEqual({ ...HERE, hostKeys: [KEY] });
  });

  test.each([
    ['another machine', [{ endpoints: [THERE] }]],
    ['another port', [{ endpoints: [{ ...HERE, port: 2222 }] }]],
    ['nothing', []],
  ])('has none where only %s is known', (_what, records) => {
    expect(endpointOf(entry, records).hostKeys).toEqual([]);
  });
});

describe('a record', () => {
  test.each([
    ['begins with it', undefined, [HERE]],
    ['is as it is where it is that already', { endpoints: [HERE, THERE] }, undefined],
    ['has it first, and where the host was before behind it', { endpoints: [THERE] }, [HERE, THERE]],
    ['moves it to the front', { endpoints: [THERE, HERE] }, [HERE, THERE]],
    [
      'has one login for each machine, the new one',
      { endpoints: [{ ...HERE, user: 'builder', secret: 'old', hostKeys: [] }, THERE] },
      [HERE, THERE],
    ],
  ])('with an endpoint: %s', (_what, record, endpoints) => {
    expect(withEndpoint(record, HERE)?.endpoints).toEqual(endpoints);
  });

  test.each([[{}], [{ endpoints: [] }], [{ endpoints: [{ ...HERE, port: '22' }] }], ['text'], [null]])(
    'is not %j',
    (value) => {
      expect(() => parseRecord(value)).toThrow(/invalid_type|too_small/);
    },
  );

  test('is read as it was written', () => {
    const record = { endpoints: [HERE, THERE] };
    expect(parseRecord(JSON.parse(JSON.stringify(record)))).toEqual(record);
  });
});

test('a machine is its address and port, whoever logs in', () => {
  const another: Endpoint = { ...HERE, user: 'builder', secret: 'x', hostKeys: [] };
  expect(isSameMachine(HERE, another)).toBe(true);
  expect(isSameMachine(HERE, THERE)).toBe(false);
  expect(isSameMachine(HERE, { ...HERE, port: 2222 })).toBe(false);
});

test('a debt has a key that a ConfigMap may have, one for each account and host', () => {
  const debt = { host: 'my.host_1', taskRunUid: 'u', namespace: 'n', taskRun: 't', since: '2026-01-01T00:00:00Z' };
  expect(debtKey(debt)).toMatch(/^u-[0-9a-f]{28}\.my\.host_1$/);
  expect(debtKey({ ...debt, host: 'b' })).not.toBe(debtKey(debt));
  expect(parseDebt(JSON.parse(JSON.stringify(debt)))).toEqual(debt);
  expect(() => parseDebt({ ...debt, host: 7 })).toThrow('expected string');
});
