import { z } from 'zod';

import { AppError } from '#shared/errors.ts';
import { mutate, type Outcome } from './mutate.ts';

const API_VERSION = 'admission.k8s.io/v1';
const KIND = 'AdmissionReview';

/**
 * What we read of an AdmissionReview v1
 * (https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#request). The object itself may be anything.
 */
const reviewSchema = z.object({
  apiVersion: z.literal(API_VERSION),
  kind: z.literal(KIND),
  request: z.object({
    uid: z.string().min(1).max(128),
    operation: z.string(),
    resource: z.object({ group: z.string(), version: z.string(), resource: z.string() }),
    subResource: z.string().optional(),
    object: z.unknown().optional(),
  }),
});

export interface ReviewAnswer {
  apiVersion: typeof API_VERSION;
  kind: typeof KIND;
  response: { uid: string; allowed: true; patchType?: 'JSONPatch'; patch?: string; warnings?: string[] };
}

/**
 * Answers one AdmissionReview. It always allows: a marker has no reason to deny anything.
 *
 * @throws AppError `review.malformed` where `body` is not an AdmissionReview v1 with a request
 */
export function answerReview(body: unknown): { outcome: Outcome; answer: ReviewAnswer } {
  const review = reviewSchema.safeParse(body);
  if (!review.success) {
    const [issue] = review.error.issues;
    const where = issue?.path.join('.') || 'body';
    throw new AppError(
      'review.malformed',
      `not an ${KIND} of ${API_VERSION}: ${where}: ${issue?.message ?? 'invalid'}`,
    );
  }
  const { uid, operation, resource, subResource, object } = review.data.request;
  const created =
    operation === 'CREATE' && resource.group === 'tekton.dev' && resource.resource === 'taskruns' && !subResource;
  const { outcome, patch, warning } = created ? mutate(object) : { outcome: 'skipped' as const, patch: [] };
  return {
    outcome,
    answer: {
      apiVersion: API_VERSION,
      kind: KIND,
      response: {
        uid,
        allowed: true,
        ...(patch.length > 0 && {
          patchType: 'JSONPatch',
          patch: Buffer.from(JSON.stringify(patch)).toString('base64'),
        }),
        ...(warning !== undefined && { warnings: [warning] }),
      },
    },
  };
}
