import { backoffMs } from '#shared/backoff.ts';
import type { Clock } from '#shared/clock.ts';
import { messageOf } from '#shared/errors.ts';
import type { KubeClient } from '#shared/kubernetes/client.ts';
import { ignoreNotFound } from '#shared/kubernetes/errors.ts';
import { PATH } from '#shared/kubernetes/paths.ts';
import { Reflector } from '#shared/kubernetes/reflector.ts';
import type { Logger } from '#shared/log.ts';
import type { KeyedPem } from './certificate.ts';
import type { MutatingWebhookConfiguration } from './registration.ts';
import { caBundlePatch, trustOf, trustProblem, type Trust } from './trust.ts';

/** Where the certificate comes from. */
export interface CertificateSource {
  /** Paths of single objects; a change of one of them is a reason to read again. */
  watched: readonly { path: string; name: string }[];
  /** The pair to serve now, and the caBundle (PEM) that the configuration should hold: null where that is somebody else's to write. */
  read(trusts: readonly Trust[]): Promise<{ pair: KeyedPem; caBundle: string | null }>;
}

export interface KeeperOptions {
  client: KubeClient;
  configurationName: string;
  source: CertificateSource;
  /** Takes the pair that is to be served from now on. */
  serve: (pair: KeyedPem) => void;
  clock: Clock;
  log: Logger;
}

const RETRY = { baseMs: 200, maxMs: 30_000 };

/** Covers what no watch tells: time passing and files changing. */
const RESYNC_MS = 30_000;

/**
 * Keeps the certificate that we serve and the `caBundle` by which the API server trusts it in step. Watches say only *that* something
 * changed; what to do is decided on fresh reads, so that a replica with an old view never writes an old CA over a new one for long.
 */
export class CertificateKeeper {
  readonly #options: KeeperOptions;
  readonly #reflectors: Reflector<{ namespace: string; name: string; uid: string; resourceVersion: string }>[];
  #served: KeyedPem | null = null;
  #trusts: Trust[] | null = null;
  #stopped = false;
  #changed = false;
  #wake = new AbortController();
  #running: Promise<void> | undefined;

  constructor(options: KeeperOptions) {
    this.#options = options;
    const configuration = { path: PATH.mutatingWebhookConfigurations(), name: options.configurationName };
    this.#reflectors = [configuration, ...options.source.watched].map(
      ({ path, name }) =>
        new Reflector({
          client: options.client,
          path,
          fieldSelector: `metadata.name=${name}`,
          trim: ({ metadata }) => ({
            namespace: metadata.namespace ?? '',
            name: metadata.name,
            uid: metadata.uid ?? '',
            resourceVersion: metadata.resourceVersion ?? '',
          }),
          onSet: () => this.#onChange(),
          onDelete: () => this.#onChange(),
          clock: options.clock,
          log: options.log,
        }),
    );
  }

  start(): void {
    this.#running ??= this.#run();
    for (const reflector of this.#reflectors) void reflector.start();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#wake.abort();
    await Promise.all([this.#running, ...this.#reflectors.map((reflector) => reflector.stop())]);
  }

  /** Why an API server that called us now would refuse our certificate, or null where it would not. */
  notReady(): string | null {
    const { configurationName, clock } = this.#options;
    if (this.#trusts === null) return `there is no MutatingWebhookConfiguration ${configurationName}`;
    if (this.#served === null) return 'there is no certificate yet';
    const problem = trustProblem(this.#trusts, this.#served, clock.now());
    return problem && `MutatingWebhookConfiguration ${configurationName}: ${problem}`;
  }

  #onChange(): void {
    this.#changed = true;
    this.#wake.abort();
  }

  async #run(): Promise<void> {
    const { clock, log } = this.#options;
    let failures = 0;
    while (!this.#stopped) {
      this.#changed = false;
      try {
        await this.#reconcile();
        failures = 0;
      } catch (error) {
        failures++;
        log.warn({ err: error, failures }, `cannot keep the certificate right: ${messageOf(error)}`);
      }
      if (this.#changed || this.#stopped) continue;
      this.#wake = new AbortController();
      await clock.sleep(failures > 0 ? backoffMs(failures, RETRY) : RESYNC_MS, this.#wake.signal);
    }
  }

  async #reconcile(): Promise<void> {
    const { client, configurationName, source, log } = this.#options;
    const path = PATH.mutatingWebhookConfigurations(configurationName);
    const configuration = await ignoreNotFound(client.get<MutatingWebhookConfiguration>(path));
    this.#trusts = configuration && trustOf(configuration);
    if (configuration === null || this.#trusts === null || this.#trusts.length === 0) return;
    const { pair, caBundle } = await source.read(this.#trusts);
    if (pair.certificate !== this.#served?.certificate) {
      this.#options.serve(pair);
      this.#served = pair;
      log.info('serving a new certificate');
    }
    if (caBundle === null) return;
    const patch = caBundlePatch(configuration, caBundle);
    if (patch.length === 0) return;
    this.#trusts = trustOf(await client.patch<MutatingWebhookConfiguration>(path, patch, 'json'));
    log.info({ configuration: configurationName }, 'wrote the caBundle');
  }
}
