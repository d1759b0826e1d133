import { type Node, type Pair, Scalar, type YAMLMap, isMap, isNode, isPair, isScalar, isSeq, visit } from 'yaml';
import { TASKGEN_ERROR, TaskgenError } from './errors.ts';

/**
 * Changes a YAML text where it is told to and nowhere else: what is not touched stays as it is, byte for byte. Knows lists and
 * mappings in block style.
 */
export interface YamlEditor {
  /** Appends items to the list under `key`, each given as the lines of a mapping; makes the list where there is none. */
  addItems(map: YAMLMap, key: string, items: readonly (readonly string[])[]): void;
  /** Puts another pair in the place of the one under `key`, given by its lines. */
  replacePair(map: YAMLMap, key: string, lines: readonly string[]): void;
  /** Appends a pair, given by its lines. */
  addPair(map: YAMLMap, lines: readonly string[]): void;
  replaceScalar(map: YAMLMap, key: string, text: string): void;
  /** Puts lines in front of the given line (0: the first) of a text of several lines. */
  insertLines(map: YAMLMap, key: string, at: number, lines: readonly string[]): void;
  /** The text with all the changes. */
  text(): string;
}

interface Edit {
  readonly start: number;
  readonly end: number;
  readonly text: string;
  /** Of several insertions in one place the deeper comes first. */
  readonly depth: number;
}

/** @param dash columns between a key and the dashes of the list under it, where there is no list to learn it from */
export function createYamlEditor(source: string, dash: number): YamlEditor {
  const edits: Edit[] = [];
  const change = (start: number, end: number, text: string, depth = 0): void => {
    edits.push({ start, end, text, depth });
  };

  const insertAfter = (node: Node, lines: readonly string[], depth: number): void => {
    const at = lineEnd(source, endOf(node));
    change(at, at, lines.map((line) => `${line}\n`).join(''), depth);
  };

  const replacePair: YamlEditor['replacePair'] = (map, key, lines) => {
    const pair = pairOf(map, key);
    if (!isNode(pair?.key) || !isNode(pair.value)) throw refuse(key);
    visit(pair.value, {
      Value: (_, { anchor }) => {
        if (anchor !== undefined) throw refuse(key);
      },
    });
    const indent = ' '.repeat(columnOf(map));
    const text = lines.map((line, i) => (i === 0 || line === '' ? line : indent + line)).join('\n');
    change(rangeOf(pair.key)[0], lineEnd(source, endOf(pair.value)) - 1, text);
  };

  return {
    addItems(map, key, items) {
      const column = columnOf(map);
      const depth = 2 * column + 1;
      const value = valueOf(map, key);
      const listAt = (indent: number): string[] =>
        items.flatMap((item) => item.map((line, i) => `${' '.repeat(indent)}${i === 0 ? '- ' : '  '}${line}`));
      if (value === undefined) {
        insertAfter(map, [`${' '.repeat(column)}${key}:`, ...listAt(column + dash)], depth - 1);
      } else if (isSeq(value) && value.flow !== true) {
        insertAfter(value, listAt(columnOf(value)), depth);
      } else if (isEmptyList(value)) {
        const [start, end] = rangeOf(value);
        change(source.slice(0, start).trimEnd().length, end, '');
        insertAfter(value, listAt(column + dash), depth);
      } else {
        throw refuse(key);
      }
    },

    replacePair,

    addPair(map, lines) {
      const column = columnOf(map);
      insertAfter(
        map,
        lines.map((line) => (line === '' ? line : ' '.repeat(column) + line)),
        2 * column,
      );
    },

    replaceScalar(map, key, text) {
      const value = valueOf(map, key);
      if (!isScalar(value)) throw refuse(key);
      const [start, end] = rangeOf(value);
      change(start, end, text);
    },

    insertLines(map, key, at, lines) {
      const value = valueOf(map, key);
      if (!isScalar(value) || typeof value.value !== 'string') throw refuse(key);
      if (value.type === Scalar.BLOCK_LITERAL && value.value !== '') {
        const indent = contentIndent(source, value);
        let start = source.indexOf('\n', rangeOf(value)[0]) + 1;
        for (let n = 0; n < at; n++) start = source.indexOf('\n', start) + 1;
        change(start, start, lines.map((line) => (line === '' ? '\n' : `${indent}${line}\n`)).join(''));
        return;
      }
      const all = value.value.split('\n');
      const text = all.toSpliced(at, 0, ...lines).join('\n');
      replacePair(map, key, [`${key}: ${text.endsWith('\n') ? '|' : '|-'}`, ...indented(text)]);
    },

    text() {
      const newline = source.includes('\r\n') ? '\r\n' : '\n';
      const ordered = edits.toSorted((a, b) => a.start - b.start || b.depth - a.depth);
      let position = 0;
      let result = '';
      for (const { start, end, text } of ordered) {
        result += source.slice(position, start) + text.replaceAll('\n', newline);
        position = end;
      }
      return result + source.slice(position);
    },
  };
}

/** The lines of a block literal, without its header. Of newlines at its end at most one is kept. */
export function indented(text: string): string[] {
  return text
    .replace(/\n+$/, '')
    .split('\n')
    .map((line) => (line === '' ? '' : `  ${line}`));
}

export function valueOf(map: YAMLMap, key: string): Node | undefined {
  const value = pairOf(map, key)?.value;
  return isNode(value) ? value : undefined;
}

/** @throws TaskgenError `refused` where it is not there, or not a mapping in block style */
export function mapIn(map: YAMLMap, key: string): YAMLMap {
  return blockMap(valueOf(map, key), key);
}

/** @throws TaskgenError `refused` */
export function blockMap(node: unknown, what: string): YAMLMap {
  if (!isMap(node) || node.flow === true || node.anchor !== undefined) throw refuse(what);
  return node;
}

/** With an anchor it may stand elsewhere, too, and would be changed there. */
function pairOf(map: YAMLMap, key: string): Pair | undefined {
  const pair = map.items.find((candidate) => isScalar(candidate.key) && candidate.key.value === key);
  if ([pair?.key, pair?.value].some((node) => isNode(node) && 'anchor' in node && node.anchor !== undefined)) {
    throw refuse(key);
  }
  return pair;
}

function refuse(what: string): TaskgenError {
  return new TaskgenError(
    TASKGEN_ERROR.refused,
    `"${what}" is written in a way that cannot be edited: please write it in block style, without anchors and aliases`,
  );
}

function isEmptyList(value: Node): boolean {
  return (isSeq(value) && value.items.length === 0) || (isScalar(value) && value.value === null);
}

/** Where the last thing in it ends, comments behind it apart. */
function endOf(node: Node): number {
  const last = (isMap(node) || isSeq(node)) && node.flow !== true ? node.items.at(-1) : undefined;
  const inner = isPair(last) ? (last.value ?? last.key) : last;
  return isNode(inner) ? endOf(inner) : rangeOf(node)[1];
}

/** The start of the next line; of this one where `offset` is there. */
function lineEnd(source: string, offset: number): number {
  if (source[offset - 1] === '\n') return offset;
  const newline = source.indexOf('\n', offset);
  return newline < 0 ? source.length : newline + 1;
}

function rangeOf(node: Node): readonly [number, number, number] {
  if (!node.range) throw new TypeError('a node that was not parsed');
  return node.range;
}

/** Of a mapping's keys, or of a list's dashes. */
function columnOf(node: Node): number {
  const { srcToken } = node;
  if (srcToken === undefined || !('indent' in srcToken)) throw new TypeError('a node parsed without source tokens');
  return srcToken.indent;
}

function contentIndent(source: string, block: Node): string {
  const [start, end] = rangeOf(block);
  const [header = '', ...lines] = source.slice(start, end).split('\n');
  const explicit = /^\|[-+]?([1-9])/.exec(header)?.[1];
  if (explicit !== undefined) return ' '.repeat(columnOf(block) + Number(explicit));
  return /^ */.exec(lines.find((line) => line.trim() !== '') ?? '')?.[0] ?? '';
}
