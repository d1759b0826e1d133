import { AppError } from '#shared/errors.ts';

/** The Pod asks for something that the stand-in for the kubelet cannot do; the message names it. */
export class UnsupportedError extends AppError {
  constructor(what: string) {
    super('unsupported', `the stand-in for the kubelet cannot run this: ${what}`);
  }
}
