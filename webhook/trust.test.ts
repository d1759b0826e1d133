import { expect, test } from 'vitest';

import { issuePair } from './certificate.ts';
import { buildRegistration, type MutatingWebhookConfiguration } from './registration.ts';
import { caBundlePatch, trustOf, trustProblem } from './trust.ts';

const NOW_MS = Date.parse('2030-01-02T00:00:00Z');
const pair = await issuePair({
  names: ['webhook.ns.svc', '::1'],
  notBefore: new Date('2030-01-01T00:00:00Z'),
  notAfter: new Date('2030-01-03T00:00:00Z'),
});

function configuration(caBundle?: string): MutatingWebhookConfiguration {
  const built = buildRegistration({ server: { service: { name: 'webhook', namespace: 'ns' } } });
  for (const { clientConfig } of built.webhooks ?? []) {
    if (caBundle !== undefined) clientConfig.caBundle = Buffer.from(caBundle).toString('base64');
  }
  return built;
}

test('a pair is trusted where the caBundle has its CA and the name is that of the Service', () => {
  expect(trustProblem(trustOf(configuration(pair.ca)), pair, NOW_MS)).toBeNull();
});

test('it is not where the caBundle is missing, or where nothing is registered', () => {
  expect(trustProblem(trustOf(configuration()), pair, NOW_MS)).toBe('the caBundle holds no certificate');
  expect(trustProblem(trustOf({ metadata: { name: 'empty' } }), pair, NOW_MS)).toBe(
    'the configuration names no webhook',
  );
});

test('the name that an API server expects is that of the Service or the host of the URL', () => {
  const ofUrl = (url: string): string | undefined => trustOf(buildRegistration({ server: { url } }))[0]?.name;
  expect(trustOf(configuration())[0]?.name).toBe('webhook.ns.svc');
  expect(ofUrl('https://127.0.0.1:9443')).toBe('127.0.0.1');
  expect(ofUrl('https://[::1]:9443')).toBe('::1');
});

test('a caBundle is put where it is not, and nothing else is touched', () => {
  expect(caBundlePatch(configuration(pair.ca), pair.ca)).toEqual([]);
  expect(caBundlePatch(configuration('old'), 'new')).toEqual([
    { op: 'test', path: '/webhooks/0/name', value: 'taskruns.multi-platform-controller.appstudio.io' },
    { op: 'add', path: '/webhooks/0/clientConfig/caBundle', value: 'bmV3' },
  ]);
});
