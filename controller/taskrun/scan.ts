import type { Clock } from '#shared/clock.ts';
import { messageOf } from '#shared/errors.ts';
import type { KubeClient } from '#shared/kubernetes/client.ts';
import { PATH } from '#shared/kubernetes/paths.ts';
import type { Logger } from '#shared/log.ts';
import { LABEL } from '#shared/names.ts';

import { viewOf, type TaskRunView } from './view.ts';

const PAGE_SIZE = 200;
/** Between pages: there may be ten thousand TaskRuns that are not ours, and nobody waits for this. */
const PAGE_PAUSE_MS = 250;

export interface ScanOptions {
  client: Pick<KubeClient, 'list'>;
  intervalMs: number;
  onFound: (view: TaskRunView) => void;
  signal: AbortSignal;
  clock: Clock;
  log: Logger;
}

/**
 * Looks, page by page and without haste, for TaskRuns that were created unmarked while the webhook was down: they carry no label, so
 * the watch does not see them.
 */
export async function scanForUnmarked(options: ScanOptions): Promise<void> {
  const { client, intervalMs, onFound, signal, clock, log } = options;
  while (!signal.aborted) {
    try {
      let token: string | undefined;
      do {
        const page = await client.list(PATH.taskRuns(), {
          labelSelector: `!${LABEL.targetPlatform}`,
          limit: PAGE_SIZE,
          continue: token,
        });
        for (const item of page.items) onFound(viewOf(item));
        token = page.metadata.continue || undefined;
        if (token !== undefined) await clock.sleep(PAGE_PAUSE_MS, signal);
      } while (token !== undefined && !signal.aborted);
    } catch (error) {
      log.warn({ err: error }, `looking for unmarked TaskRuns was interrupted: ${messageOf(error)}`);
    }
    await clock.sleep(intervalMs, signal);
  }
}
