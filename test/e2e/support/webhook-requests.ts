import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import { json } from 'node:stream/consumers';
import type { KubeClient } from '#shared/kubernetes/client.ts';
import type { KubeObject } from '#shared/kubernetes/objects.ts';
import { PATH } from '#shared/kubernetes/paths.ts';
import { issuePair } from '#webhook/certificate.ts';
import { buildRegistration } from '#webhook/registration.ts';
import { CONFIGURATIONS, TENANT, type WebhookCluster } from './webhook-cluster.ts';

export const FINALIZER = 'appstudio.io/multi-platform-finalizer';
export const MARK = 'build.appstudio.redhat.com/target-platform';

/** True for a TaskRun that was created with `linux/arm64` and no metadata of its own. */
export function isMarked({ metadata }: KubeObject): boolean {
  return metadata.labels?.[MARK] === 'linux-arm64' && metadata.finalizers?.join() === FINALIZER;
}

/** The fields of the table of mutations that are there and not empty. */
export function tableFields({ metadata: { labels, annotations, finalizers } }: KubeObject): Record<string, unknown> {
  const fields = Object.entries({ labels, annotations, finalizers });
  return Object.fromEntries(fields.filter(([, value]) => Object.keys(value ?? {}).length > 0));
}

/** Creates a TaskRun as a dry run; the answer with the warnings that kubectl would print. */
export async function dryRunOf(
  { client, controlPlane }: WebhookCluster,
  taskRun: unknown,
): Promise<{ status: number; object: KubeObject; warnings: string }> {
  const options: https.RequestOptions = { headers: { 'content-type': 'application/json' }, method: 'POST' };
  await client.config.applyToHTTPSOptions(options);
  const request = https.request(`${controlPlane.url}${PATH.taskRuns(TENANT)}?dryRun=All`, options);
  request.end(JSON.stringify(taskRun));
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  const object = (await json(response)) as KubeObject;
  return { status: response.statusCode ?? 0, object, warnings: response.headers.warning ?? '' };
}

export interface LaterWebhook extends AsyncDisposable {
  /** True where the object went through it. */
  hasSeen(object: KubeObject): boolean;
}

/** Somebody else's mutating webhook, called after ours, that changes each TaskRun: so ours is called again. */
export async function startLaterWebhook(client: KubeClient): Promise<LaterWebhook> {
  const label = 'later-webhook';
  const pair = await issuePair({
    names: ['127.0.0.1'],
    notBefore: new Date(Date.now() - 60_000),
    notAfter: new Date(Date.now() + 3_600_000),
  });
  const server = https.createServer({ key: pair.privateKey, cert: pair.certificate }, (request, response) => {
    void json(request).then((body) => {
      const { uid } = (body as { request: { uid: string } }).request;
      response.setHeader('content-type', 'application/json').end(JSON.stringify(answerWithLabel(uid, label)));
    });
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const { port } = server.address() as AddressInfo;
  const registration = buildRegistration({ server: { url: `https://127.0.0.1:${port}` }, name: 'z-later' });
  for (const { clientConfig } of registration.webhooks ?? []) {
    clientConfig.caBundle = Buffer.from(pair.ca).toString('base64');
  }
  await client.create(CONFIGURATIONS, registration);
  return {
    hasSeen: ({ metadata }) => metadata.labels?.[label] === 'was-here',
    [Symbol.asyncDispose]: async () => {
      await client.delete(`${CONFIGURATIONS}/z-later`);
      server.close();
      server.closeAllConnections();
    },
  };
}

function answerWithLabel(uid: string, label: string): object {
  const patch = [{ op: 'add', path: `/metadata/labels/${label}`, value: 'was-here' }];
  return {
    apiVersion: 'admission.k8s.io/v1',
    kind: 'AdmissionReview',
    response: {
      uid,
      allowed: true,
      patchType: 'JSONPatch',
      patch: Buffer.from(JSON.stringify(patch)).toString('base64'),
    },
  };
}
