import { AppError } from '../errors.ts';
import type { Status } from './objects.ts';

/** The API server answered with a status that is not a success. `reason` is the API's own (`NotFound`, `Conflict`, …). */
export class KubeError extends AppError {
  readonly status: number;
  readonly reason: string;
  readonly retryAfterSeconds: number | undefined;

  constructor(request: string, httpStatus: number, status: Status) {
    super(`kubernetes.${status.reason ?? httpStatus}`, `${request}: ${status.message ?? `HTTP ${httpStatus}`}`);
    this.name = 'KubeError';
    this.status = httpStatus;
    this.reason = status.reason ?? '';
    this.retryAfterSeconds = status.details?.retryAfterSeconds;
  }
}

function hasStatus(error: unknown, status: number): boolean {
  return error instanceof KubeError && error.status === status;
}

export const isNotFound = (error: unknown): boolean => hasStatus(error, 404);

/** `AlreadyExists` on a create; on anything else the object changed since it was read. */
export const isConflict = (error: unknown): boolean => hasStatus(error, 409);

/** Of the reasons for 409 on a create the one that says that the name is taken; a quota's is another. */
export const isAlreadyExists = (error: unknown): boolean =>
  error instanceof KubeError && error.reason === 'AlreadyExists';

/** `410 Gone`: the resourceVersion or the continue token is too old; list again from the start. */
export const isGone = (error: unknown): boolean => hasStatus(error, 410);

/** The object as we would make it is refused: trying the same again cannot help. */
export const isInvalid = (error: unknown): boolean => hasStatus(error, 422) || hasStatus(error, 400);

export const isForbidden = (error: unknown): boolean => hasStatus(error, 403);

/** Null where the object is not there. */
export async function ignoreNotFound<T>(promise: Promise<T>): Promise<T | null> {
  try {
    return await promise;
  } catch (error) {
    if (isNotFound(error)) return null;
    throw error;
  }
}
