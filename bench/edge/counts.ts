/** Counts: what Cloudflare bills of one class of Durable Objects. */

export interface Counts {
  /** Calls and fetches by others. */
  requests: number;
  /** WebSocket messages that came in. */
  messages: number;
  alarms: number;
  alarmsSet: number;
  rowsRead: number;
  rowsWritten: number;
}
