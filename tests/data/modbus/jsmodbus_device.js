// A BESS controller on npm jsmodbus, its registers typed from the map's document. It follows its
// power setpoint while mode is 3 and enable is 1, one ampere a kilowatt, and prints the port it
// listens on. With the word "short" its input registers end at 0x1012: jsmodbus answers a read beyond
// with no registers. The word after that is the port, by default a free one.
"use strict";
const net = require("net");
const modbus = require("jsmodbus");

const end = process.argv[2] === "short" ? 0x1013 : 0x1023;
const input = Buffer.alloc(2 * end);
const holding = Buffer.alloc(2 * 0x2007);
const first = [553, 990, 560, 0, 251, 0, 0, 4998];
first.forEach((word, n) => input.writeUInt16BE(word, 2 * (0x1000 + n)));
input.writeUInt16BE(1, 2 * 0x1010);
if (end > 0x1020) {
  [2500, 1000, 17].forEach((word, n) => input.writeUInt16BE(word, 2 * (0x1020 + n)));
}

function obey() {
  const on = holding.readUInt16BE(2 * 0x2002) === 3 && holding.readUInt16BE(2 * 0x2003) === 1;
  for (const n of [0, 1]) {
    input.writeUInt16BE(on ? holding.readUInt16BE(2 * (0x2000 + n)) : 0, 2 * (0x1005 + n));
  }
  input.writeUInt16BE(on ? holding.readUInt16BE(2 * 0x2000) : 0, 2 * 0x1003);
}

const listener = new net.Server();
const server = new modbus.server.TCP(listener, { holding, input });
server.on("postWriteMultipleRegisters", obey);
server.on("postWriteSingleRegister", obey);
server.on("connection", (client) => client.socket.on("error", () => {}));
listener.listen(Number(process.argv[3] || 0), "127.0.0.1", () => console.log(listener.address().port));
