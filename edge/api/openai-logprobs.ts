/** Logprobs as OpenAI's two routes write them. */
import type { TokenOut } from '../../core/protocol.ts';

/** JSON has no −∞; OpenAI writes this for it. */
const IMPOSSIBLE = -9999;

const entry = ({ text, logprob }: { text: string; logprob: number | null }) => ({
  token: text,
  logprob: logprob ?? IMPOSSIBLE,
  bytes: Array.from(new TextEncoder().encode(text)),
});

/** Chat: an entry a token, end of sequence included, so that there are `completion_tokens` of them. */
export function chatLogprobs(tokens: TokenOut[]): object {
  return { content: tokens.map((token) => ({ ...entry(token), top_logprobs: token.top.map(entry) })), refusal: null };
}

/** Completions: parallel arrays. `textOffset` is where the first token's text begins in the answer, in code points. */
export function completionLogprobs(tokens: TokenOut[], textOffset: number): object {
  let at = textOffset;
  const offsets = tokens.map(({ text }) => {
    const offset = at;
    at += codePoints(text);
    return offset;
  });
  return {
    tokens: tokens.map(({ text }) => text),
    token_logprobs: tokens.map(({ logprob }) => logprob ?? IMPOSSIBLE),
    top_logprobs: tokens.some(({ top }) => top.length > 0) ? tokens.map(topByText) : null,
    text_offset: offsets,
  };
}

export function codePoints(text: string): number {
  let count = 0;
  for (const _ of text) count++;
  return count;
}

/** Several ids may have the same text; the likeliest comes first and stays. */
function topByText({ top }: TokenOut): Record<string, number> {
  const byText: [string, number][] = top.map(({ text, logprob }) => [text, logprob ?? IMPOSSIBLE]);
  return Object.fromEntries(byText.reverse());
}
