import type { Clock } from '#shared/clock.ts';
import { ANNOTATION, LABEL, LOCAL_HOST } from '#shared/names.ts';

import { accountName } from '../host/account-name.ts';
import { HostError, type AccountLimits } from '../host/contract.ts';
import type { Fleet } from '../host/fleet.ts';
import type { KeyPair } from '../host/keys.ts';
import { knownHosts } from '../host/known-hosts.ts';
import type { Metrics } from '../metrics.ts';
import type { Changes, Pool } from '../pool/pool.ts';
import type { ConfigState } from './decide.ts';
import * as text from './error-text.ts';
import type { Reporter } from './reporter.ts';
import { platformForMetrics, platformOf, platformsOf, writtenTimeMs, type Run } from './run.ts';
import type { SecretContent } from './secret.ts';
import type { SecretWriter } from './secrets.ts';
import { failedHostsOf, type TaskRunView } from './view.ts';
import { whyNoneIsUsable } from './waiting.ts';
import type { TaskRunWriter } from './writer.ts';

const HOUR_MS = 3_600_000;
/** The key of a TaskRun without a timeout. */
const KEY_LIFE_MS = 24 * HOUR_MS;
/** A user may write a timeout of centuries and milliards of retries: no host knows such a date. */
const MAX_KEY_LIFE_MS = 365 * KEY_LIFE_MS;

export interface StepsOptions {
  writer: TaskRunWriter;
  secrets: SecretWriter;
  reporter: Reporter;
  pool: Pool;
  fleet: Pick<Fleet, 'createAccount' | 'removeAccount' | 'owe' | 'problemOf'>;
  metrics: Metrics;
  configState: () => ConfigState;
  /** Slots changed hands. */
  onChanges: (changes: Changes) => void;
  /** How long removing an account is tried before the TaskRun is let go and the debt written down. */
  letGoAfterMs: number;
  limits: AccountLimits;
  generateKeyPair: () => Promise<KeyPair>;
  /** The hosts' connections are being closed: what fails now is not the hosts' fault, and the next leader goes on from here. */
  isStopping: () => boolean;
  clock: Clock;
}

/**
 * What is done for a TaskRun, a step for each decision. Each step can be repeated: it ends early where the TaskRun changed under it
 * (then it is decided again), and rejects where it is to be tried again later.
 */
export class Steps {
  readonly #options: StepsOptions;

  constructor(options: StepsOptions) {
    this.#options = options;
  }

  /** Takes a slot, or a place in the queue. */
  async allocate(run: Run, platform: string): Promise<void> {
    const { pool, clock, configState, writer, reporter } = this.#options;
    const { view } = run;
    run.searchStartMs ??=
      (view.hasFinalizer ? writtenTimeMs(view, ANNOTATION.allocationStartTime) : undefined) ?? clock.now();
    const exclude = new Set([...(view.hasFinalizer ? failedHostsOf(view) : []), ...run.failures.keys()]);
    const result = pool.request({ uid: view.uid, platform, exclude });
    if (result.kind === 'waiting') {
      if (!(await writer.mark(run, { waiting: true }))) return;
      const { position } = result;
      const why = this.#whyNoneIsUsable(platform);
      const also = why === undefined ? '' : `; none can be used now: ${why}`;
      reporter.say(run, 'waiting', `waits for a host for ${platform}: number ${position} in the queue${also}`, {
        position,
      });
    } else if (result.kind === 'no-such-platform') {
      const state = configState();
      const known = 'config' in state ? [...platformsOf(state.config)].toSorted() : [];
      await this.refuse(run, text.unknownPlatform(platform, known));
    } else if (result.kind === 'exhausted') {
      const state = configState();
      const hosts = 'config' in state ? [...state.config.hosts.values()] : [];
      const failed = hosts.filter((host) => host.platform === platform && exclude.has(host.name));
      const failures = new Map(failed.map(({ name }) => [name, run.failures.get(name) ?? 'failed earlier']));
      await this.refuse(run, text.allHostsFailed(platform, failures));
    }
  }

  /** Tells one that is in the queue already, where the last host that it could get is out. */
  explainWaiting(run: Run): void {
    const platform = platformOf(run.view);
    const why = this.#whyNoneIsUsable(platform);
    if (why !== undefined)
      this.#options.reporter.say(run, 'waiting', `waits for a host for ${platform}; none can be used now: ${why}`);
  }

  /** Writes the slot on the TaskRun: from here on it is committed. */
  async assign(run: Run, host: string): Promise<void> {
    const { clock, metrics, writer, reporter, configState } = this.#options;
    run.slotAtMs ??= clock.now();
    const waited = run.view.labels[LABEL.waitingForPlatform] !== undefined;
    if (!(await writer.mark(run, { host }))) return;
    // Its marks were taken off by somebody, and are on again.
    if (run.assignedAtMs !== undefined) return;
    run.assignedAtMs = clock.now();
    const seconds = Math.max(0, run.assignedAtMs - (run.searchStartMs ?? run.assignedAtMs)) / 1000;
    const platform = platformForMetrics(run.view, configState());
    metrics.hostAllocationTime.observe({ platform }, seconds);
    if (waited) metrics.waitTime.observe({ platform }, seconds);
    reporter.say(run, 'assigned', `got a slot on host ${host}`, { host });
  }

  /** Makes the account and hands it over. Each part is done once, however often it is tried. */
  async provision(run: Run, host: string): Promise<void> {
    const { pool, clock, metrics, secrets, reporter, configState } = this.#options;
    // The list has changed, or what is written on it was never checked: before a restart a user may have written it.
    const isOffered = pool.platformOf(host) === platformOf(run.view) && !pool.isOverfull(host);
    if (run.prepared === undefined && !isOffered) {
      await this.withdraw(run, host);
      return;
    }
    try {
      if (!(await secrets.publish(run, () => this.#makeAccount(run, host)))) return;
    } catch (error) {
      if (!(error instanceof HostError) || this.#options.isStopping()) throw error;
      await this.#hostFailed(run, host, error);
      return;
    }
    const platform = platformForMetrics(run.view, configState());
    metrics.provisioningSuccesses.inc({ platform });
    const readyMs = Math.max(0, clock.now() - (run.slotAtMs ?? clock.now()));
    metrics.readySeconds.observe({ platform }, readyMs / 1000);
    reporter.say(run, 'ready', `has its account on host ${host}`, { host, durationMs: Math.round(readyMs) });
  }

  /** Nobody will use the account, so it goes, and the slot. */
  async withdraw(run: Run, host: string): Promise<void> {
    const { pool, fleet, clock, writer, onChanges } = this.#options;
    if (!(await writer.mark(run, { host }))) return;
    if (run.mayHaveAccount) {
      try {
        await fleet.removeAccount(host, accountName(run.view.uid), run.view.uid);
      } catch (error) {
        if (!(error instanceof HostError) || this.#options.isStopping()) throw error;
        await this.#owe(run.view, host, clock.now());
      }
    }
    run.mayHaveAccount = false;
    if (!(await writer.mark(run, {}))) return;
    run.slotAtMs = run.assignedAtMs = undefined;
    onChanges(pool.release(run.view.uid));
  }

  /** Gives the reason why there is no host, where the build's own log will show it. */
  async refuse(run: Run, message: string): Promise<void> {
    const { pool, metrics, writer, reporter, onChanges, configState } = this.#options;
    onChanges(pool.release(run.view.uid));
    const isNew = run.view.annotations[ANNOTATION.error] !== message;
    if (!(await writer.mark(run, { error: message }))) return;
    if (isNew) {
      metrics.hostAllocationFailures.inc({ platform: platformForMetrics(run.view, configState()) });
      reporter.say(run, 'refused', `gets no host: ${message}`);
    }
    if (!(await this.#options.secrets.publish(run, () => ({ kind: 'error', message })))) await writer.mark(run, {});
  }

  async runLocally(run: Run): Promise<void> {
    const { pool, writer, reporter, secrets, onChanges } = this.#options;
    onChanges(pool.release(run.view.uid));
    if (!(await writer.mark(run, { host: LOCAL_HOST }))) return;
    if (await secrets.publish(run, () => ({ kind: 'local' })))
      reporter.say(run, 'local', 'runs in its own Pod: its platform is a local one');
    else await writer.mark(run, {});
  }

  /** Account first, then the Secret, then labels and finalizer; the slot is free when all that is done. */
  async release(run: Run): Promise<void> {
    const { pool, clock, metrics, secrets, writer, onChanges, configState } = this.#options;
    const { uid } = run.view;
    pool.leave(uid);
    run.releaseStartMs ??= Math.min(run.view.endedAtMs ?? clock.now(), clock.now());
    const host = pool.hostOf(uid);
    if (host !== undefined && run.mayHaveAccount) await this.#removeAccount(run, host, run.releaseStartMs);
    await secrets.delete(run);
    if (!run.gone && !(await writer.unmark(run))) return;
    if (run.assignedAtMs !== undefined && host !== undefined) {
      const seconds = Math.max(0, run.releaseStartMs - run.assignedAtMs) / 1000;
      metrics.taskRunTime.observe({ platform: platformForMetrics(run.view, configState()) }, seconds);
    }
    run.assignedAtMs = undefined;
    onChanges(pool.release(uid));
    // The last finalizer may have been ours: there is nothing to look at any more.
    if (run.view.deleting) run.gone = true;
  }

  #whyNoneIsUsable(platform: string): string | undefined {
    const { configState, fleet } = this.#options;
    const state = configState();
    return 'config' in state ? whyNoneIsUsable(platform, state.config, (host) => fleet.problemOf(host)) : undefined;
  }

  async #makeAccount(run: Run, host: string): Promise<SecretContent> {
    const { fleet, limits, clock, generateKeyPair } = this.#options;
    const { uid, timeoutMs } = run.view;
    const account = accountName(uid);
    const { privateKey, publicKey } = await generateKeyPair();
    const keyLifeMs = timeoutMs === undefined ? KEY_LIFE_MS : Math.min(timeoutMs + HOUR_MS, MAX_KEY_LIFE_MS);
    const expiresAtMs = clock.now() + keyLifeMs;
    // One that an earlier process made is not gone because this one could not make it.
    const hadAccount = run.mayHaveAccount;
    run.mayHaveAccount = true;
    const request = { account, taskRunUid: uid, publicKey, expiresAtMs, limits };
    const login = await fleet.createAccount(host, request).catch((error: unknown) => {
      if (error instanceof HostError && !error.mayHaveActed) run.mayHaveAccount = hadAccount;
      throw error;
    });
    return {
      kind: 'login',
      privateKey,
      host: `${account}@${login.address}`,
      userDir: login.home,
      knownHosts: knownHosts(login),
      port: login.port,
    };
  }

  async #hostFailed(run: Run, host: string, error: HostError): Promise<void> {
    const { pool, metrics, clock, reporter, onChanges, configState } = this.#options;
    const { view } = run;
    run.failures.set(host, error.message);
    metrics.provisioningFailures.inc({ platform: platformForMetrics(view, configState()) });
    reporter.say(run, 'hostFailed', `got no account on host ${host}: ${error.message}`, { host, code: error.code });
    if (run.mayHaveAccount) await this.#owe(view, host, clock.now());
    run.mayHaveAccount = false;
    run.slotAtMs = run.assignedAtMs = undefined;
    onChanges(pool.release(view.uid));
  }

  async #removeAccount(run: Run, host: string, startMs: number): Promise<void> {
    const { fleet, metrics, clock, letGoAfterMs, reporter, configState } = this.#options;
    const { view } = run;
    const tryStartMs = clock.now();
    try {
      await fleet.removeAccount(host, accountName(view.uid), view.uid);
      const durationMs = Math.round(clock.now() - tryStartMs);
      reporter.say(run, 'cleaned', `left nothing on host ${host}`, { host, durationMs });
    } catch (error) {
      if (!(error instanceof HostError) || this.#options.isStopping()) throw error;
      metrics.cleanupFailures.inc({ platform: platformForMetrics(view, configState()) });
      const fields = { host, code: error.code };
      if (clock.now() - startMs < letGoAfterMs) {
        reporter.say(
          run,
          'cleanupFailed',
          `still has its account on host ${host}; removing it is tried again: ${error.message}`,
          fields,
        );
        throw error;
      }
      await this.#owe(view, host, startMs);
      reporter.say(
        run,
        'letGo',
        `is let go; its account on host ${host} is written down to be removed later: ${error.message}`,
        fields,
      );
    }
    run.mayHaveAccount = false;
  }

  async #owe(view: TaskRunView, host: string, sinceMs: number): Promise<void> {
    const { uid, namespace, name } = view;
    const since = new Date(sinceMs).toISOString();
    await this.#options.fleet.owe({ host, taskRunUid: uid, namespace, taskRun: name, since });
  }
}
