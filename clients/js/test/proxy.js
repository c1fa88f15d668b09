/** A TCP proxy before the demo whose connections can be cut, or stand still. */
import net from "node:net";

export class Proxy {
  constructor(port) {
    this.target = port;
    this.pairs = new Set();
    this.refusing = false;
    this.accepted = 0;
    this.server = net.createServer((near) => {
      this.accepted += 1;
      if (this.refusing) return near.destroy();
      const far = net.connect(this.target, "127.0.0.1");
      const pair = { near, far };
      this.pairs.add(pair);
      near.pipe(far).pipe(near);
      for (const socket of [near, far]) {
        socket.on("error", () => {});
        socket.on("close", () => (near.destroy(), far.destroy(), this.pairs.delete(pair)));
      }
    });
  }

  async listen() {
    await new Promise((resolve) => this.server.listen(0, "127.0.0.1", resolve));
    return this.server.address().port;
  }

  /** Cut every connection. */
  cut() {
    for (const { near, far } of this.pairs) near.destroy(), far.destroy();
  }

  /** Let nothing of what the server says through, without closing: a dead network. */
  freeze() {
    for (const { near, far } of this.pairs) far.unpipe(near), far.pause();
  }

  close() {
    this.cut();
    this.server.close();
  }
}
