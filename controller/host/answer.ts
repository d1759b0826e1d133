import { z } from 'zod';
import { type Endpoint, HOST_ERROR, HostError } from './contract.ts';
import { classify } from './failures.ts';
import { printable } from './text.ts';

const FAILURE = z.object({
  error: z.enum(['not-root', 'missing-command', 'foreign-account', 'busy', 'left', 'failed']),
  text: z.string(),
  /** Something of the account may be there. */
  left: z.boolean(),
});

export const CHECK_ANSWER = z.object({ ok: z.literal(true), now: z.number() });
export const CREATE_ANSWER = z.object({ ok: z.literal(true), home: z.string().startsWith('/') });
export const REMOVE_ANSWER = z.object({ ok: z.literal(true) });
export const LIST_ANSWER = z.object({
  ok: z.literal(true),
  accounts: z.array(z.object({ account: z.string(), taskRunUid: z.string() })),
});

/** @throws HostError for a script that says that it failed, and for one that says nothing that we understand. */
export function readAnswer<T>(schema: z.ZodType<T>, answer: unknown, endpoint: Endpoint): T {
  const success = schema.safeParse(answer);
  if (success.success) return success.data;
  const failure = FAILURE.safeParse(answer);
  if (failure.success) throw failureOf(failure.data, endpoint);
  throw new HostError(HOST_ERROR.failed, 'the host gave an answer that cannot be read', { mayHaveActed: true });
}

function failureOf({ error, text, left }: z.infer<typeof FAILURE>, { user }: Endpoint): HostError {
  const detail = printable(text);
  const options = { mayHaveActed: left };
  switch (error) {
    case 'not-root':
      return new HostError(HOST_ERROR.noSudo, `the admin "${printable(user)}" is not root: ${detail}`, options);
    case 'missing-command':
      return new HostError(HOST_ERROR.missingCommand, `the command "${detail}" is not there on the host`, options);
    case 'foreign-account':
      return new HostError(HOST_ERROR.foreignAccount, `an account is there that is not ours to touch: ${detail}`, {
        mayHaveActed: false,
      });
    case 'busy':
      return new HostError(HOST_ERROR.busy, `something else is still being done to ${detail} on the host`, {
        mayHaveActed: true,
      });
    case 'left': {
      const { code, meaning } = classify(text);
      const why = code === HOST_ERROR.failed ? '' : ` (${meaning})`;
      return new HostError(HOST_ERROR.left, `not everything could be removed${why}: ${detail}`, options);
    }
    case 'failed': {
      const { code, meaning } = classify(text);
      return new HostError(code, `${meaning}: ${detail}`, options);
    }
  }
}
