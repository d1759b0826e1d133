/** What stands for what: `params.x` → its value. Names come without `$(` and `)`. */
export interface Replacements {
  readonly strings: ReadonlyMap<string, string>;
  /** In a list of strings, an element that is just `$(name)` or `$(name[*])` becomes all of them. */
  readonly arrays?: ReadonlyMap<string, readonly string[]>;
}

const VARIABLE = /\$\(([^()$]+)\)/g;
const WHOLE_VARIABLE = /^\$\(([^()$]+?)(?:\[\*\])?\)$/;

/** A copy of `value` in which every known `$(name)` in every string is replaced, once; unknown ones stay as they are. */
export function substitute<T>(value: T, replacements: Replacements): T {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the copy has the shape of what it is a copy of
  return copy(value, replacements) as T;
}

function copy(value: unknown, replacements: Replacements): unknown {
  if (typeof value === 'string') {
    return value.replaceAll(VARIABLE, (all, name: string) => replacements.strings.get(name) ?? all);
  }
  if (Array.isArray(value)) {
    const items: readonly unknown[] = value;
    return items.flatMap((item): readonly unknown[] => {
      const name = typeof item === 'string' ? WHOLE_VARIABLE.exec(item)?.[1] : undefined;
      const array = name === undefined ? undefined : replacements.arrays?.get(name);
      return array ?? [copy(item, replacements)];
    });
  }
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([key, field]) => [key, copy(field, replacements)]));
  }
  return value;
}
