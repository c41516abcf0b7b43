// A BESS controller on npm modbus-serial, its registers typed from the map's document. It answers
// exception 2 inside the holes, follows its power setpoint while mode is 3 and enable is 1, one ampere
// a kilowatt, and prints the port it listens on: the first word, by default a free one.
"use strict";
const { ServerTCP } = require("modbus-serial");

const input = new Map([
  [0x1000, 553], [0x1001, 990], [0x1002, 560], [0x1003, 0], [0x1004, 251], [0x1005, 0],
  [0x1006, 0], [0x1007, 4998], [0x1010, 1], [0x1011, 0], [0x1012, 0], [0x1020, 2500],
  [0x1021, 1000], [0x1022, 17],
]);
const holding = new Map(Array.from({ length: 7 }, (_, n) => [0x2000 + n, 0]));

function look(registers, address) {
  if (!registers.has(address)) {
    throw { modbusErrorCode: 2 };
  }
  return registers.get(address);
}

function obey() {
  const on = holding.get(0x2002) === 3 && holding.get(0x2003) === 1;
  input.set(0x1003, on ? holding.get(0x2000) : 0);
  input.set(0x1005, on ? holding.get(0x2000) : 0);
  input.set(0x1006, on ? holding.get(0x2001) : 0);
}

const vector = {
  getInputRegister: (address) => look(input, address),
  getHoldingRegister: (address) => look(holding, address),
  setRegister: (address, value) => {
    look(holding, address);
    holding.set(address, value);
    obey();
  },
};
const port = Number(process.argv[2] || 0);
const server = new ServerTCP(vector, { host: "127.0.0.1", port, unitID: 1, debug: false });
server.on("initialized", () => console.log(server._server.address().port));
server.on("socketError", () => {});
