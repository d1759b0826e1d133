import { expect, test } from 'vitest';

import { AppError } from '#shared/errors.ts';
import { answerReview } from './review.ts';

function review(request: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    apiVersion: 'admission.k8s.io/v1',
    kind: 'AdmissionReview',
    request: {
      uid: '705ab4f5-6393-11e8-b7cc-42010a800002',
      operation: 'CREATE',
      resource: { group: 'tekton.dev', version: 'v1', resource: 'taskruns' },
      object: { metadata: { finalizers: [] }, spec: { params: [{ name: 'PLATFORM', value: 'linux/arm64' }] } },
      ...request,
    },
  };
}

test('a TaskRun with a platform is answered with a patch under the uid of the request', () => {
  const { outcome, answer } = answerReview(review());
  expect(outcome).toBe('marked');
  expect(answer).toMatchObject({
    apiVersion: 'admission.k8s.io/v1',
    kind: 'AdmissionReview',
    response: { uid: '705ab4f5-6393-11e8-b7cc-42010a800002', allowed: true, patchType: 'JSONPatch' },
  });
  expect(JSON.parse(Buffer.from(answer.response.patch ?? '', 'base64').toString())).toEqual([
    {
      op: 'add',
      path: '/metadata/labels',
      value: { 'build.appstudio.redhat.com/target-platform': 'linux-arm64' },
    },
    { op: 'add', path: '/metadata/finalizers/-', value: 'appstudio.io/multi-platform-finalizer' },
  ]);
});

test('a PLATFORM that is none is allowed with a warning and without a patch', () => {
  const object = { metadata: {}, spec: { params: [{ name: 'PLATFORM', value: 'ARM' }] } };
  const { outcome, answer } = answerReview(review({ object }));
  expect(outcome).toBe('malformed');
  expect(answer.response).toEqual({
    uid: '705ab4f5-6393-11e8-b7cc-42010a800002',
    allowed: true,
    warnings: [expect.stringContaining('PLATFORM "ARM" is not a platform')],
  });
});

test.each([
  ['an update', { operation: 'UPDATE' }],
  ['another resource', { resource: { group: 'tekton.dev', version: 'v1', resource: 'pipelineruns' } }],
  ['another group', { resource: { group: 'example.com', version: 'v1', resource: 'taskruns' } }],
  ['a subresource', { subResource: 'status' }],
  ['a null object', { object: null }],
  ['no object', { object: undefined }],
])('%s is allowed as it is', (_what, request) => {
  const { outcome, answer } = answerReview(review(request));
  expect(outcome).toBe('skipped');
  expect(answer.response).toEqual({ uid: '705ab4f5-6393-11e8-b7cc-42010a800002', allowed: true });
});

test.each([
  ['nothing', undefined],
  ['a list', []],
  ['another kind', { ...review(), kind: 'Pod' }],
  ['another version', { ...review(), apiVersion: 'admission.k8s.io/v1beta1' }],
  ['no request', { ...review(), request: undefined }],
  ['no uid', review({ uid: undefined })],
  ['an empty uid', review({ uid: '' })],
  ['a uid that is a number', review({ uid: 7 })],
])('%s is refused', (_what, body) => {
  expect(() => answerReview(body)).toThrow(AppError);
});
