/** JSON keys: the first key that an object of a JSON text has twice. JSON.parse keeps the last one silently, other parsers the first. */

/** `text` must have passed JSON.parse. One pass, no recursion; keys are compared after their escapes are resolved. */
export function findDuplicateKey(text: string): string | null {
  /** Keys so far of each open object; null for an open array. */
  const open: (Set<string> | null)[] = [];
  for (let i = 0; i < text.length; i++) {
    switch (text[i]) {
      case '{':
        open.push(new Set());
        break;
      case '[':
        open.push(null);
        break;
      case '}':
      case ']':
        open.pop();
        break;
      case '"': {
        const start = i;
        for (i++; text[i] !== '"'; i++) if (text[i] === '\\') i++;
        const keys = open.at(-1);
        if (!keys || !isKey(text, i + 1)) break;
        const key = JSON.parse(text.slice(start, i + 1)) as string;
        if (keys.has(key)) return key;
        keys.add(key);
      }
    }
  }
  return null;
}

/** In valid JSON only a key is followed by a colon. */
function isKey(text: string, end: number): boolean {
  while (text[end] === ' ' || text[end] === '\n' || text[end] === '\t' || text[end] === '\r') end++;
  return text[end] === ':';
}
