import { z } from 'zod';

import { accountName } from './account-name.ts';

/** Name of the ConfigMap with one {@link Debt} per account that is still to be removed. */
export const LEDGER_NAME = 'multi-platform-cleanup-ledger';

const debtSchema = z.object({
  host: z.string(),
  taskRunUid: z.string(),
  namespace: z.string(),
  taskRun: z.string(),
  since: z.string(),
});

/** One TaskRun can leave an account on several hosts; the name of the account is the same on each. */
export function debtKey({ host, taskRunUid }: Debt): string {
  return `${accountName(taskRunUid)}.${host}`;
}

/** An account whose TaskRun was let go before the account was gone. */
export type Debt = Readonly<z.infer<typeof debtSchema>>;

export function parseDebt(value: unknown): Debt {
  return debtSchema.parse(value);
}
