import fc from 'fast-check';
import { expect, test } from 'vitest';

import { hostile, onOne, play, scenario } from './model.testing.ts';

/** Some seconds. */
const RUNS = 300;

test('whatever happens, and wherever API server, hosts and process fail, slots are kept and nothing is left', async () => {
  const property = fc.asyncProperty(scenario(hostile, 5), async (scene) => void (await play(scene)));
  await expect(fc.assert(property, { numRuns: RUNS, unbiased: true })).resolves.toBeUndefined();
}, 120_000);

test('where nothing fails, a TaskRun takes 5 writes, and 6 where it had to wait', async () => {
  const once = fc.oneof(onOne('run', 'create', 'resolve', 'complete', 'delete'));
  await fc.assert(
    fc.asyncProperty(scenario(once, 0), async (scene) => {
      const seen = new Set<string>();
      const actions = scene.actions.filter(({ action: { kind, name: of } }) => {
        // One TaskRun for each name, so that its writes are counted alone.
        if (kind !== 'create' && kind !== 'run') return true;
        return !seen.has(of ?? '') && seen.add(of ?? '');
      });
      const played = await play({ ...scene, actions });
      for (const of of seen) expect(played.writesOf(of).slice(played.hasWaited(of) ? 6 : 5)).toEqual([]);
    }),
    { numRuns: RUNS / 3, unbiased: true },
  );
}, 120_000);
