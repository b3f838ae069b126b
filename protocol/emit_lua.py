"""schema.toml → chatd.lua, a dissector for Wireshark (wireshark -X lua_script:protocol/chatd.lua).

The interpreter that walks the layouts is the same for every op and stands here as text; the tables it walks are made.
"""

import json
from collections.abc import Iterator

from emit_c import COMMAND
from model import FLAG_EXT, Layout, Schema

# Fields whose numbers have names in a table of the schema.
NAMED = {
    ("BYE", "reason"): "close",
    ("GOAWAY", "reason"): "close",
    ("ERROR", "code"): "error",
    ("SEND_NAK", "code"): "error",
    ("REPLY", "code"): "error",
    ("SEND", "kind"): "kind",
    ("DELIVER", "kind"): "kind",
    ("EPHEMERAL", "kind"): "ephemeral_kind",
    ("AUTH", "credential"): "credential",
    ("REAUTH", "credential"): "credential",
    ("REQUEST", "method"): "method",
}

INTERPRETER = r"""
local chatd = Proto("chatd", "chatd")
local f_length = ProtoField.uint16("chatd.length", "Length", base.DEC)
local f_op = ProtoField.uint8("chatd.op", "Op", base.HEX, op_names)
local f_flags = ProtoField.uint8("chatd.flags", "Flags", base.HEX)
local f_field = ProtoField.bytes("chatd.field", "Field")
chatd.fields = { f_length, f_op, f_flags, f_field }
local e_malformed = ProtoExpert.new("chatd.malformed", "Malformed frame", expert.group.MALFORMED, expert.severity.ERROR)
chatd.experts = { e_malformed }

local FIXED = { u8 = 1, u16 = 2, u32 = 4, u64 = 8, time40 = 5 }

-- Value, number of bytes; nil when the varint is cut or too long.
local function varint(buffer, at, stop)
  local value, factor = 0, 1
  for index = 0, 8 do
    if at + index >= stop then return nil end
    local byte = buffer(at + index, 1):uint()
    value = value + (byte % 128) * factor
    if byte < 128 then return value, index + 1 end
    factor = factor * 128
  end
  return nil
end

local function add(tree, buffer, at, size, name, text)
  tree:add(f_field, buffer(at, size)):set_text(name .. ": " .. text)
end

local function shown(range)
  if range:len() > 64 then return range:len() .. " bytes" end
  return range:bytes():tohex() .. " " .. range:string()
end

local walk

-- One field at `at`: the place behind it, nil when it does not fit.
local function field(tree, buffer, at, stop, entry)
  local name, kind = entry[1], entry[2]
  if kind == "list" then
    local count, size = varint(buffer, at, stop)
    if not count then return nil end
    add(tree, buffer, at, size, name, string.format("%d entries", count))
    at = at + size
    for index = 1, count do
      if at >= stop then return nil end
      local branch = tree:add(f_field, buffer(at, stop - at))
      branch:set_text(name .. " " .. index)
      at = walk(branch, buffer, at, stop, records[entry[3]], false)
      if not at then return nil end
    end
    return at
  end
  if kind == "rest" or kind == "msgpack" then
    if stop > at then add(tree, buffer, at, stop - at, name, shown(buffer(at, stop - at))) end
    return stop
  end
  if kind == "varint" then
    local value, size = varint(buffer, at, stop)
    if not value then return nil end
    local word = entry.names and entry.names[value]
    add(tree, buffer, at, size, name, string.format("%.0f", value) .. (word and " (" .. word .. ")" or ""))
    return at + size
  end
  local size, head = FIXED[kind] or tonumber(kind:match("^bytes(%d+)$")), 0
  if not size then
    size, head = varint(buffer, at, stop)
    if not size then return nil end
  end
  if size > stop - at - head then return nil end
  if size == 0 then
    add(tree, buffer, at, head, name, "empty")
    return at + head
  end
  local range = buffer(at + head, size)
  if kind == "time40" then
    local ms = range(0, 1):uint() * 4294967296 + range(1, 4):uint() + TIME_EPOCH_MS
    local moment = os.date("!%Y-%m-%dT%H:%M:%S", math.floor(ms / 1000))
    add(tree, buffer, at, size, name, moment .. string.format(".%03dZ", ms % 1000))
  elseif FIXED[kind] and size <= 4 then
    local value = range:uint()
    local word = entry.names and entry.names[value]
    add(tree, buffer, at, size, name, value .. (word and " (" .. word .. ")" or ""))
  else
    add(tree, buffer, at, head + size, name, shown(range))
  end
  return at + head + size
end

-- All fields of a layout: the place behind them, nil when the body ends too early.
function walk(tree, buffer, at, stop, layout, has_ext)
  for index = 0, #layout do
    if has_ext and index == layout.ext then
      local size, head = varint(buffer, at, stop)
      if not size or size > stop - at - head then return nil end
      add(tree, buffer, at, head + size, "extensions", size .. " bytes")
      at = at + head + size
    end
    if index < #layout then
      at = field(tree, buffer, at, stop, layout[index + 1])
      if not at then return nil end
    end
  end
  return at
end

local function frame(buffer, pinfo, tree)
  local op, flags, stop = buffer(2, 1):uint(), buffer(3, 1):uint(), buffer:len()
  local rule = ops[op]
  local title = rule and rule.name or string.format("op 0x%02X", op)
  local branch = tree:add(chatd, buffer(), "chatd " .. title)
  branch:add(f_length, buffer(0, 2))
  branch:add(f_op, buffer(2, 1))
  local words = {}
  for bit, word in pairs(rule and rule.flags or {}) do
    if math.floor(flags / bit) % 2 == 1 then words[#words + 1] = word end
  end
  branch:add(f_flags, buffer(3, 1)):append_text(#words > 0 and " (" .. table.concat(words, " ") .. ")" or "")
  pinfo.cols.info:append(" " .. title)
  if rule then
    local behind = walk(branch, buffer, 4, stop, rule, flags % 2 == 1)
    if behind ~= stop then branch:add_proto_expert_info(e_malformed) end
  end
  return stop
end

function chatd.dissector(buffer, pinfo, tree)
  pinfo.cols.protocol = "chatd"
  pinfo.cols.info = ""
  dissect_tcp_pdus(buffer, tree, 4, function(head) return 4 + head(0, 2):uint() end, frame)
end

DissectorTable.get("tcp.port"):add(7350, chatd)
"""


def dissector(schema: Schema) -> str:
    """The whole plugin."""
    lines = [f"-- {COMMAND}", f"local TIME_EPOCH_MS = {schema.raw['protocol']['time_epoch_ms']}"]
    for table in sorted(set(NAMED.values())):
        names = ", ".join(f"[{entry['code']}] = {quoted(name)}" for name, entry in schema.table(table).items())
        lines.append(f"local {table}_names = {{ {names} }}")
    lines.append("local op_names = { " + ", ".join(f"[{op.code}] = {quoted(op.name)}" for op in schema.ops) + " }")
    lines.append("local records = {")
    for name, layout in schema.records.items():
        lines.append(f"  {name} = {{ {', '.join(fields(name, layout))} }},")
    lines += ["}", "local ops = {"]
    for op in schema.ops:
        flags = {f"[{bit}] = {quoted(name)}" for name, bit in op.flags.items()}
        if op.layout.ext is not None:
            flags.add(f"[{FLAG_EXT}] = {quoted('EXT')}")
        ext = f", ext = {op.layout.ext}" if op.layout.ext is not None else ""
        lines.append(f"  [{op.code}] = {{ name = {quoted(op.name)}, flags = {{ {', '.join(sorted(flags))} }}{ext},")
        lines.append(f"    {', '.join(fields(op.name, op.layout))} }},")
    lines.append("}")
    return "\n".join(lines) + "\n" + INTERPRETER


def fields(owner: str, layout: Layout) -> Iterator[str]:
    for field in layout.fields:
        names = NAMED.get((owner, field.name))
        record = f", {quoted(field.record)}" if field.record else ""
        yield f"{{ {quoted(field.name)}, {quoted(field.type)}{record}{f', names = {names}_names' if names else ''} }}"


def quoted(text: str) -> str:
    return json.dumps(text)
