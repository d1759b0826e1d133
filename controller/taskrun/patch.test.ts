import { expect, test } from 'vitest';

import { ANNOTATION, FINALIZER, LABEL } from '#shared/names.ts';

import { markPatch, unmarkPatch } from './patch.ts';
import { viewOf } from './view.ts';

const view = (metadata: object) =>
  viewOf({ metadata: { name: 'b', namespace: 'n', uid: 'u', resourceVersion: '7', ...metadata } });

test('marking keeps the finalizers of others, and says which version it was decided on', () => {
  expect(
    markPatch(view({ finalizers: ['other'] }), { labels: { [LABEL.targetPlatform]: 'p' }, annotations: {} }),
  ).toEqual({
    metadata: {
      uid: 'u',
      resourceVersion: '7',
      finalizers: ['other', FINALIZER],
      labels: { [LABEL.targetPlatform]: 'p' },
    },
  });
});

test('marking takes off whatever else is there under our names, and leaves the rest alone', () => {
  const forged = view({
    finalizers: [FINALIZER],
    labels: { [LABEL.assignedHost]: 'forged', [LABEL.targetPlatform]: 'p', app: 'x' },
    annotations: { [ANNOTATION.failedHosts]: 'forged', note: 'x' },
  });
  expect(
    markPatch(forged, { labels: { [LABEL.targetPlatform]: 'p', [LABEL.waitingForPlatform]: 'p' }, annotations: {} }),
  ).toEqual({
    metadata: {
      uid: 'u',
      resourceVersion: '7',
      labels: { [LABEL.assignedHost]: null, [LABEL.waitingForPlatform]: 'p' },
      annotations: { [ANNOTATION.failedHosts]: null },
    },
  });
});

test('nothing is written where nothing differs', () => {
  const marked = view({ finalizers: [FINALIZER], labels: { [LABEL.targetPlatform]: 'p' } });
  expect(markPatch(marked, { labels: { [LABEL.targetPlatform]: 'p' }, annotations: {} })).toBeNull();
  expect(unmarkPatch(view({ labels: { app: 'x' } }))).toBeNull();
});

test('unmarking takes our finalizer and labels off, and leaves the annotations, which say what happened', () => {
  const marked = view({
    finalizers: ['other', FINALIZER],
    labels: { [LABEL.targetPlatform]: 'p', [LABEL.assignedHost]: 'h', app: 'x' },
    annotations: { [ANNOTATION.failedHosts]: 'a' },
  });
  expect(unmarkPatch(marked)).toEqual({
    metadata: {
      uid: 'u',
      resourceVersion: '7',
      finalizers: ['other'],
      labels: { [LABEL.targetPlatform]: null, [LABEL.assignedHost]: null },
    },
  });
});
