import {
  DEFAULT_NAMESPACE,
  FINALIZER,
  LABEL,
  PLATFORM_PARAM,
  RESERVED_ANNOTATIONS,
  RESERVED_LABELS,
} from '#shared/names.ts';
import { DNS_1035_LABEL, EXTRA_PLATFORMS } from '#shared/platform.ts';
import type { KubeObject } from '#shared/kubernetes/objects.ts';
import {
  CONFIGURATION_NAME,
  type FailurePolicy,
  type LabelSelector,
  MATCH_CONDITIONS,
  namespaceSelector,
  TASK_RUN_RULE,
} from './registration.ts';

/**
 * The marking of `mutate.ts` in CEL (docs/webhook.md, "Marking without a server"); one table of cases answers for both. What it cannot
 * do is warn.
 */
export const POLICY_VARIABLES: readonly { name: string; expression: string }[] = [
  { name: 'param', expression: `object.spec.params.filter(p, has(p.name) && p.name == ${quote(PLATFORM_PARAM)})[0]` },
  { name: 'isString', expression: 'has(variables.param.value) && type(variables.param.value) == string' },
  { name: 'platform', expression: 'variables.isString ? string(variables.param.value) : ""' },
  { name: 'isPlatform', expression: `variables.platform.matches(${quote(platformPattern())})` },
  // As long as a label value may be, and ending as one may end (shared/platform.ts).
  { name: 'label', expression: 'variables.platform.replace("/", "-").find("^[-_a-z0-9]{0,62}[a-z0-9]")' },
];

/** Each operation asks whether it is needed, so that being called again (`reinvocationPolicy: IfNeeded`) changes nothing. */
const OPERATIONS: readonly string[] = [
  ...RESERVED_LABELS.map((label) =>
    removal('labels', label, label === LABEL.targetPlatform ? '!variables.isPlatform' : undefined),
  ),
  ...RESERVED_ANNOTATIONS.map((annotation) => removal('annotations', annotation)),
  operation({
    when: 'variables.isPlatform && !has(object.metadata.labels)',
    patch: `op: "add", path: "/metadata/labels", value: {${quote(LABEL.targetPlatform)}: variables.label}`,
  }),
  operation({
    when:
      'variables.isPlatform && has(object.metadata.labels) && ' +
      `!(${quote(LABEL.targetPlatform)} in object.metadata.labels && ` +
      `object.metadata.labels[${quote(LABEL.targetPlatform)}] == variables.label)`,
    patch: `op: "add", path: ${pointer('labels', LABEL.targetPlatform)}, value: variables.label`,
  }),
  operation({
    when: 'variables.isPlatform && !has(object.metadata.finalizers)',
    patch: `op: "add", path: "/metadata/finalizers", value: [${quote(FINALIZER)}]`,
  }),
  operation({
    when: `variables.isPlatform && has(object.metadata.finalizers) && !(${quote(FINALIZER)} in object.metadata.finalizers)`,
    patch: `op: "add", path: "/metadata/finalizers/-", value: ${quote(FINALIZER)}`,
  }),
];

/** One mutation: the API server encodes and decodes the object for each. */
export const POLICY_MUTATIONS = [{ patchType: 'JSONPatch', jsonPatch: { expression: OPERATIONS.join(' +\n') } }];

export interface PolicyOptions {
  /** Default: the name of the webhook's configuration. */
  name?: string;
  /** Namespace of this installation. */
  namespace?: string;
  failurePolicy?: FailurePolicy;
  namespaceSelector?: LabelSelector;
}

export interface MutatingAdmissionPolicy extends KubeObject {
  spec: { matchConstraints: Record<string, unknown>; [other: string]: unknown };
}

/** A MutatingAdmissionPolicy and its binding, for API servers from 1.36 on. The Helm chart renders the same objects. */
export function buildPolicy(options: PolicyOptions = {}): [policy: MutatingAdmissionPolicy, binding: KubeObject] {
  const { name = CONFIGURATION_NAME, namespace = DEFAULT_NAMESPACE } = options;
  const apiVersion = 'admissionregistration.k8s.io/v1';
  const policy = {
    apiVersion,
    kind: 'MutatingAdmissionPolicy',
    metadata: { name },
    spec: {
      matchConstraints: {
        matchPolicy: 'Equivalent',
        namespaceSelector: namespaceSelector(namespace, options.namespaceSelector),
        resourceRules: [TASK_RUN_RULE],
      },
      matchConditions: MATCH_CONDITIONS,
      variables: POLICY_VARIABLES,
      mutations: POLICY_MUTATIONS,
      failurePolicy: options.failurePolicy ?? 'Ignore',
      reinvocationPolicy: 'IfNeeded',
    },
  };
  const binding = {
    apiVersion,
    kind: 'MutatingAdmissionPolicyBinding',
    metadata: { name },
    spec: { policyName: name },
  };
  return [policy, binding];
}

function removal(map: 'labels' | 'annotations', key: string, when?: string): string {
  const present = `has(object.metadata.${map}) && ${quote(key)} in object.metadata.${map}`;
  return operation({
    when: `variables.isString && ${when === undefined ? '' : `${when} && `}${present}`,
    patch: `op: "remove", path: ${pointer(map, key)}`,
  });
}

function operation({ when, patch }: { when: string; patch: string }): string {
  return `(${when} ? [JSONPatch{${patch}}] : [])`;
}

function pointer(map: string, key: string): string {
  return `"/metadata/${map}/" + jsonpatch.escapeKey(${quote(key)})`;
}

/** The rule of `isPlatform` as one pattern (RE2). */
function platformPattern(): string {
  const label = DNS_1035_LABEL.source.replace(/^\^|\$$/g, '');
  return `^(?:${[...EXTRA_PLATFORMS].join('|')}|${label}/${label})$`;
}

/** A CEL string literal. */
function quote(text: string): string {
  return JSON.stringify(text);
}
