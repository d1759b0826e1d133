import { createHash } from 'node:crypto';

/** `u-` and 28 hex digits: 112 bits, and short enough for every tool that cuts names at 32 characters. */
export const ACCOUNT_NAME = /^u-[0-9a-f]{28}$/;

/** The name of the account of the TaskRun with this UID. Nothing that a user can write goes into it. */
export function accountName(taskRunUid: string): string {
  return `u-${createHash('sha256').update(taskRunUid).digest('hex').slice(0, 28)}`;
}
