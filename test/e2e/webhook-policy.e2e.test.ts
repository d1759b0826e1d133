import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { systemClock } from '#shared/clock.ts';
import { KubeError } from '#shared/kubernetes/errors.ts';
import { PATH } from '#shared/kubernetes/paths.ts';
import { MUTATION_CASES } from '#webhook/mutation-cases.ts';
import { buildPolicy } from '#webhook/policy.ts';
import { buildRegistration } from '#webhook/registration.ts';
import {
  CONFIGURATION,
  CONFIGURATIONS,
  requestsOf,
  startReplica,
  startServiceStandIn,
  startWebhookCluster,
  type TaskRun,
  taskRun,
  TENANT,
  until,
  type WebhookCluster,
} from './support/webhook-cluster.ts';
import { dryRunOf, isMarked, startLaterWebhook, tableFields } from './support/webhook-requests.ts';

const ADMISSION = '/apis/admissionregistration.k8s.io/v1';
const BINDING = `${ADMISSION}/mutatingadmissionpolicybindings`;

let cluster: WebhookCluster;
const [policy, binding] = buildPolicy();

beforeAll(async () => {
  cluster = await startWebhookCluster();
  await cluster.client.create(`${ADMISSION}/mutatingadmissionpolicies`, policy);
  await cluster.client.create(BINDING, binding);
  // For up to 5 s the API server itself does not know the type yet and answers 503 (docs/webhook.md, "Marking without a server").
  await until('a TaskRun is marked', () =>
    create(taskRun('linux/arm64')).then(isMarked, (error: unknown) => {
      if (error instanceof KubeError && error.status === 503) return false;
      throw error;
    }),
  );
}, 120_000);

afterAll(async () => {
  await cluster.stop();
});

function create(object: TaskRun): Promise<TaskRun> {
  return cluster.client.create<TaskRun>(PATH.taskRuns(TENANT), object, { dryRun: 'All' });
}

describe('the table of mutations, by policy', () => {
  test.each(MUTATION_CASES)('$name', async ({ metadata, spec, expected }) => {
    const { status, object, warnings } = await dryRunOf(cluster, {
      apiVersion: 'tekton.dev/v1',
      kind: 'TaskRun',
      metadata: { generateName: 'case-', ...metadata },
      spec,
    });
    expect(status).toBe(201);
    expect(tableFields(object)).toEqual(expected);
    expect(warnings).toBe('');
  });
});

test('as v1beta1', async () => {
  const path = `/apis/tekton.dev/v1beta1/namespaces/${TENANT}/taskruns`;
  const object = { ...taskRun('linux/arm64'), apiVersion: 'tekton.dev/v1beta1' };
  expect(isMarked(await cluster.client.create<TaskRun>(path, object, { dryRun: 'All' }))).toBe(true);
});

test('the namespaces of the system are left alone', async () => {
  const created = await cluster.client.create<TaskRun>(PATH.taskRuns('kube-system'), taskRun('linux/arm64'));
  expect(created.metadata.finalizers).toBeUndefined();
});

test('called again after a webhook, it adds nothing twice', async () => {
  await using later = await startLaterWebhook(cluster.client);
  await until('the webhook is called', async () => later.hasSeen(await create(taskRun('linux/arm64'))));
  expect(isMarked(await create(taskRun('linux/arm64')))).toBe(true);
});

test('a change from one to the other and back leaves no TaskRun unmarked, and marks none twice', async () => {
  const allMarked = async (): Promise<void> => {
    for (let index = 0; index < 20; index++) expect(isMarked(await create(taskRun('linux/arm64')))).toBe(true);
  };
  const markedElsewhere = async (): Promise<boolean> => {
    const path = PATH.taskRuns('default');
    return isMarked(await cluster.client.create<TaskRun>(path, taskRun('linux/arm64'), { dryRun: 'All' }));
  };
  const replica = await startReplica(cluster, systemClock);
  const service = await startServiceStandIn(() => [replica]);
  // The webhook is for one namespace only: in another one sees whether the policy works.
  const namespaceSelector = { matchLabels: { 'kubernetes.io/metadata.name': TENANT } };
  try {
    await cluster.client.create(CONFIGURATIONS, buildRegistration({ server: service, namespaceSelector }));
    await until('the webhook is called', async () => {
      expect(isMarked(await create(taskRun('linux/arm64')))).toBe(true);
      return (await requestsOf(replica))['marked'] === 1;
    });
    await cluster.client.delete(`${BINDING}/${binding.metadata.name}`);
    await until('the policy is off', async () => !(await markedElsewhere()));
    await allMarked();
    expect((await requestsOf(replica))['marked']).toBe(21);
    await cluster.client.create(BINDING, binding);
    await until('the policy is on', markedElsewhere);
    await allMarked();
    await cluster.client.delete(CONFIGURATION);
    await allMarked();
  } finally {
    await replica.stop();
    await service.stop();
  }
});
