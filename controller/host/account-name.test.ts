import fc from 'fast-check';
import { expect, it } from 'vitest';
import { ACCOUNT_NAME, accountName } from './account-name.ts';

it('is the same for the same UID, after a restart too', () => {
  // printf %s 6f1c6e8e-2f0c-4f0e-9d43-3a1f3c1c7b1a | sha256sum | cut -c -28
  expect(accountName('6f1c6e8e-2f0c-4f0e-9d43-3a1f3c1c7b1a')).toBe('u-ef6a377430d935de540e97ba8967');
});

it('is a plain account name whatever the UID', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (uid) => {
      expect(accountName(uid)).toMatch(/^u-[0-9a-f]{28}$/);
      expect(accountName(uid)).toMatch(ACCOUNT_NAME);
    }),
  );
});
