import { stringify } from 'yaml';

import { ANNOTATION, FINALIZER, LABEL, RESERVED_ANNOTATIONS, RESERVED_LABELS, SECRET_PREFIX } from '#shared/names.ts';
import { POLICY_VARIABLES } from '#webhook/policy.ts';
import { MATCH_CONDITIONS } from '#webhook/registration.ts';

export const PROTECTION_FILE = 'charts/multi-platform-controller/files/protection.yaml';

/** The chart puts the namespace of the installation in the place of `NAMESPACE`. */
const CONTROLLER = 'system:serviceaccount:NAMESPACE:multi-platform-controller';
const WEBHOOK = `${CONTROLLER}-webhook`;

/** As in the chart's _helpers.tpl. */
export const CERTIFICATE_SECRET = 'multi-platform-controller-webhook-certificate';

/**
 * Who may write marks: whoever RBAC lets `write` a resource that does not exist. The chart's ClusterRole gives that to the controller, and
 * `*` gives it to cluster administrators.
 */
const MAY_WRITE_MARKS = `authorizer.group("appstudio.io").resource("multiplatformmarks").check("write").allowed()`;

interface PolicySpec {
  failurePolicy: 'Fail';
  matchConstraints: object;
  matchConditions: { name: string; expression: string }[];
  variables?: { name: string; expression: string }[];
  validations: { expression: string; message?: string; messageExpression?: string; reason: string }[];
}

/** It is for the chart to leave out where the webhook makes no certificate. */
const CERTIFICATE_POLICY = 'certificate';

/** Specs of ValidatingAdmissionPolicies; `name` goes behind the name of the installation. */
export function protectionPolicies(): { name: string; spec: PolicySpec }[] {
  return [
    { name: 'marks', spec: marks() },
    {
      name: 'secrets',
      spec: confinement({
        rule: { apiGroups: [''], apiVersions: ['v1'], operations: ['CREATE', 'DELETE'], resources: ['secrets'] },
        expression:
          'request.operation == "DELETE"' +
          ` ? oldObject.metadata.name.startsWith(${quote(SECRET_PREFIX)})` +
          ` : has(object.metadata.name) && object.metadata.name.startsWith(${quote(SECRET_PREFIX)}) && object.type == "Opaque"`,
        message: `the controller makes and deletes only Opaque Secrets called ${SECRET_PREFIX}…`,
      }),
    },
    {
      name: CERTIFICATE_POLICY,
      spec: confinement({
        by: WEBHOOK,
        rule: { apiGroups: [''], apiVersions: ['v1'], operations: ['CREATE'], resources: ['secrets'] },
        expression: `has(object.metadata.name) && object.metadata.name == ${quote(CERTIFICATE_SECRET)} && object.type == "Opaque"`,
        message: `the webhook makes only the Opaque Secret ${CERTIFICATE_SECRET}`,
      }),
    },
    {
      name: 'pods',
      spec: confinement({
        rule: { apiGroups: [''], apiVersions: ['v1'], operations: ['UPDATE'], resources: ['pods'] },
        variables: [mapOf('labels'), mapOf('annotations'), oldMapOf('labels'), oldMapOf('annotations')],
        expression: [
          'object.spec == oldObject.spec',
          'variables.labels == variables.oldLabels',
          ...onlyOurs('annotations', [ANNOTATION.secretReady]),
          ...['finalizers', 'ownerReferences'].map(unchanged),
        ].join(' &&\n'),
        message: `the controller writes nothing on a Pod but the annotation ${ANNOTATION.secretReady}`,
      }),
    },
    {
      name: 'taskruns',
      spec: confinement({
        rule: { apiGroups: ['tekton.dev'], apiVersions: ['v1'], operations: ['UPDATE'], resources: ['taskruns'] },
        variables: [mapOf('labels'), mapOf('annotations'), oldMapOf('labels'), oldMapOf('annotations')],
        expression: [
          'object.spec == oldObject.spec',
          unchanged('ownerReferences'),
          ...onlyOurs('labels', RESERVED_LABELS),
          ...onlyOurs('annotations', RESERVED_ANNOTATIONS),
          `${finalizersOfOthers('object')} == ${finalizersOfOthers('oldObject')}`,
        ].join(' &&\n'),
        message: 'the controller writes nothing on a TaskRun but its own labels, annotations and finalizer',
      }),
    },
  ];
}

/** Nobody but us changes our labels, annotations and finalizer. At creation the marks must be those that the webhook would make. */
function marks(): PolicySpec {
  const [hasPlatform] = MATCH_CONDITIONS;
  if (hasPlatform === undefined) throw new Error('the webhook has a match condition');
  const isMark = `variables.isNew && variables.isMarkable`;
  const isRightLabel = `k == ${quote(LABEL.targetPlatform)} && k in variables.labels && variables.labels[k] == variables.label`;
  const names = (map: 'labels' | 'annotations', keys: readonly string[], allowed: string): string =>
    `${list(keys)}.filter(k, !(${isSame(map, `old${capital(map)}`)})${allowed}).map(k, ${quote(`${map.slice(0, -1)} `)} + k)`;
  return {
    failurePolicy: 'Fail',
    matchConstraints: {
      matchPolicy: 'Equivalent',
      resourceRules: [
        {
          apiGroups: ['tekton.dev'],
          apiVersions: ['v1'],
          operations: ['CREATE', 'UPDATE'],
          resources: ['taskruns'],
          scope: 'Namespaced',
        },
      ],
    },
    matchConditions: [{ name: 'not-by-us-nor-an-administrator', expression: `!${MAY_WRITE_MARKS}` }],
    variables: [
      { name: 'isNew', expression: 'request.operation == "CREATE"' },
      ...POLICY_VARIABLES,
      { name: 'isMarkable', expression: `${hasPlatform.expression} && variables.isPlatform` },
      mapOf('labels'),
      mapOf('annotations'),
      oldMapOf('labels'),
      oldMapOf('annotations'),
      { name: 'hasFinalizer', expression: hasFinalizer('object') },
      { name: 'hadFinalizer', expression: `!variables.isNew && ${hasFinalizer('oldObject')}` },
      {
        name: 'changed',
        expression: [
          names('labels', RESERVED_LABELS, ` && !(${isMark} && ${isRightLabel})`),
          names('annotations', RESERVED_ANNOTATIONS, ''),
          `(variables.hasFinalizer == variables.hadFinalizer || (${isMark} && variables.hasFinalizer) ? [] : [${quote(`finalizer ${FINALIZER}`)}])`,
        ].join(' +\n'),
      },
    ],
    validations: [
      {
        expression: 'size(variables.changed) == 0',
        messageExpression:
          '"only multi-platform-controller writes " + variables.changed.join(", ") + ' +
          '" on a TaskRun: leave that as it is (or, where a TaskRun is copied, out); a cluster administrator can change it"',
        message: 'only multi-platform-controller writes its labels, annotations and finalizer on a TaskRun',
        reason: 'Forbidden',
      },
    ],
  };
}

/** What RBAC cannot say of a ServiceAccount of ours, should somebody get hold of its token. */
function confinement(parts: {
  /** The controller's where nobody is named. */
  by?: string;
  rule: object;
  variables?: PolicySpec['variables'];
  expression: string;
  message: string;
}): PolicySpec {
  const { by = CONTROLLER, rule, variables, expression, message } = parts;
  return {
    failurePolicy: 'Fail',
    matchConstraints: { matchPolicy: 'Equivalent', resourceRules: [rule] },
    matchConditions: [
      {
        name: by === CONTROLLER ? 'by-the-controller' : 'by-the-webhook',
        expression: `request.userInfo.username == ${quote(by)}`,
      },
    ],
    ...(variables && { variables }),
    validations: [{ expression, message, reason: 'Forbidden' }],
  };
}

/** True where key `k` is in both maps with the same value, or in neither. */
function isSame(map: string, oldMap: string): string {
  const [now, before] = [`variables.${map}`, `variables.${oldMap}`];
  return `(k in ${now}) == (k in ${before}) && (!(k in ${now}) || ${now}[k] == ${before}[k])`;
}

/** Nothing is different but `ours`. */
function onlyOurs(map: 'labels' | 'annotations', ours: readonly string[]): string[] {
  const old = `old${capital(map)}`;
  return [
    `variables.${map}.all(k, k in ${list(ours)} || ${isSame(map, old)})`,
    `variables.${old}.all(k, k in ${list(ours)} || k in variables.${map})`,
  ];
}

/** In their order. */
function finalizersOfOthers(object: string): string {
  return `(has(${object}.metadata.finalizers) ? ${object}.metadata.finalizers.filter(f, f != ${quote(FINALIZER)}) : [])`;
}

function mapOf(map: string): { name: string; expression: string } {
  return { name: map, expression: `has(object.metadata.${map}) ? object.metadata.${map} : {}` };
}

function oldMapOf(map: string): { name: string; expression: string } {
  const there = `oldObject != null && has(oldObject.metadata.${map})`;
  return { name: `old${capital(map)}`, expression: `${there} ? oldObject.metadata.${map} : {}` };
}

function unchanged(field: string): string {
  const at = (object: string): string => `${object}.metadata.${field}`;
  return `has(${at('object')}) == has(${at('oldObject')}) && (!has(${at('object')}) || ${at('object')} == ${at('oldObject')})`;
}

function hasFinalizer(object: string): string {
  return `has(${object}.metadata.finalizers) && ${quote(FINALIZER)} in ${object}.metadata.finalizers`;
}

function list(words: readonly string[]): string {
  return `[${words.map(quote).join(', ')}]`;
}

function capital(word: string): string {
  return word.charAt(0).toUpperCase() + word.slice(1);
}

/** A CEL string literal. */
function quote(text: string): string {
  return JSON.stringify(text);
}

const HEADER = '# Generated by `node charts/generate.ts` from charts/protection.ts: change that.\n';

export function protectionFile(): string {
  return HEADER + stringify({ policies: protectionPolicies() }, { aliasDuplicateObjects: false, lineWidth: 0 });
}
