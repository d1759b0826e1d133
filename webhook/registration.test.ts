import { expect, test } from 'vitest';

import { buildRegistration } from './registration.ts';

test('by default it is for a Service, ignores failures, and stays out of the namespaces of the system', () => {
  const { webhooks, metadata } = buildRegistration({
    server: { service: { name: 'webhook', namespace: 'ns' } },
    namespace: 'ns',
  });
  expect(metadata).toEqual({ name: 'multi-platform-controller' });
  expect(webhooks).toHaveLength(1);
  expect(webhooks?.[0]).toMatchObject({
    clientConfig: { service: { name: 'webhook', namespace: 'ns', path: '/mutate', port: 443 } },
    failurePolicy: 'Ignore',
    matchPolicy: 'Equivalent',
    reinvocationPolicy: 'IfNeeded',
    sideEffects: 'None',
    timeoutSeconds: 3,
    namespaceSelector: {
      matchExpressions: [
        {
          key: 'kubernetes.io/metadata.name',
          operator: 'NotIn',
          values: ['kube-system', 'kube-public', 'kube-node-lease', 'ns'],
        },
      ],
    },
  });
});

test('a selector of the installation is added to that, and failures, name and cert-manager can be set', () => {
  const { webhooks, metadata } = buildRegistration({
    server: { url: 'https://127.0.0.1:9443' },
    name: 'other',
    failurePolicy: 'Fail',
    namespaceSelector: {
      matchLabels: { team: 'a' },
      matchExpressions: [{ key: 'off', operator: 'DoesNotExist' }],
    },
    injectCaFrom: 'ns/webhook',
  });
  expect(metadata).toEqual({ name: 'other', annotations: { 'cert-manager.io/inject-ca-from': 'ns/webhook' } });
  expect(webhooks?.[0]).toMatchObject({
    clientConfig: { url: 'https://127.0.0.1:9443/mutate' },
    failurePolicy: 'Fail',
    namespaceSelector: {
      matchLabels: { team: 'a' },
      matchExpressions: [
        { key: 'kubernetes.io/metadata.name', operator: 'NotIn' },
        { key: 'off', operator: 'DoesNotExist' },
      ],
    },
  });
});
