// The messages of proto/chorus/v1, read from the files themselves.
import { fileURLToPath } from "node:url";
import protobuf from "protobufjs";

const root = new protobuf.Root();
const folder = fileURLToPath(new URL("../../../../proto/", import.meta.url));
root.resolvePath = (_origin, target) => folder + target;
root.loadSync("chorus/v1/service.proto");
const types = new Map<string, protobuf.Type>();

export function messageType(name: string): protobuf.Type {
  let type = types.get(name);
  if (type === undefined) {
    type = root.lookupType("chorus.v1." + name);
    types.set(name, type);
  }
  return type;
}

// 64-bit numbers go in as bigints and come out as decimal strings.
export type Fields = Record<string, any>;

export function encode(name: string, fields: Fields): Buffer {
  const type = messageType(name);
  const plain = Object.fromEntries(
    Object.entries(fields).map(([key, value]) => [
      key,
      typeof value === "bigint" ? value.toString() : value,
    ]),
  );
  return Buffer.from(type.encode(type.fromObject(plain)).finish());
}

export function decode(name: string, bytes: Uint8Array): Fields {
  const type = messageType(name);
  const options = { defaults: true, oneofs: true, longs: String, bytes: Buffer } as const;
  return type.toObject(type.decode(bytes), options as protobuf.IConversionOptions);
}
