-- Generated from protocol/schema.toml by `make wire`; edit that file instead.
local TIME_EPOCH_MS = 1735689600000
local close_names = { [1] = "NORMAL", [2] = "PEER_CLOSED", [3] = "PEER_RESET", [4] = "GOING_AWAY", [5] = "TAKEN_OVER", [6] = "SLOW", [7] = "SLOW_FRAME", [8] = "HEARTBEAT_TIMEOUT", [9] = "BAD_FRAME", [10] = "UNSUPPORTED", [11] = "FLOOD", [12] = "AUTH_FAILED", [13] = "AUTH_TIMEOUT", [14] = "FIRST_BYTE_TIMEOUT", [15] = "PREAUTH_EVICTED", [16] = "TOKEN_EXPIRED", [17] = "REVOKED", [18] = "KICKED", [19] = "SHED", [20] = "INTERNAL", [21] = "TLS_FAILED", [22] = "PROXY_FAILED", [23] = "REPLACED" }
local credential_names = { [1] = "JWT", [2] = "API_KEY", [3] = "PASSWORD", [4] = "GUEST", [5] = "DEVICE_KEY" }
local ephemeral_kind_names = { [1] = "TYPING", [2] = "PRESENCE", [3] = "SIGNAL", [4] = "TELEMETRY", [16] = "CUSTOM" }
local error_names = { [100] = "BAD_FRAME", [101] = "UNSUPPORTED", [102] = "TOO_LARGE", [103] = "BAD_REQUEST", [104] = "CSEQ_REUSE", [105] = "NOT_ALLOWED_NOW", [200] = "AUTH_FAILED", [201] = "TOKEN_EXPIRED", [202] = "REVOKED", [203] = "AUTH_BUSY", [300] = "FORBIDDEN", [301] = "NOT_FOUND", [302] = "EXPIRED", [303] = "LIMIT_REACHED", [304] = "MUTED", [305] = "BANNED", [306] = "CONTACTS_ONLY", [400] = "RATE_LIMITED", [401] = "BUSY", [500] = "UNAVAILABLE", [501] = "STORE_FULL", [502] = "OUT_OF_ORDER", [503] = "INTERNAL", [600] = "MOVED" }
local kind_names = { [1] = "TEXT", [2] = "MARKDOWN", [3] = "STICKER", [4] = "IMAGE", [5] = "VOICE", [6] = "VIDEO", [7] = "FILE", [8] = "LOCATION", [9] = "CONTACT", [10] = "TYPED", [16] = "CUSTOM", [17] = "EDIT", [18] = "RECALL", [19] = "REACTION", [20] = "PIN", [26] = "COMMAND", [27] = "COMMAND_RESULT", [28] = "CASE_CHANGED", [29] = "CASE_RATED", [32] = "CONVERSATION_CREATED", [33] = "MEMBERS_ADDED", [34] = "MEMBERS_REMOVED", [35] = "MEMBER_LEFT", [36] = "ROLE_CHANGED", [37] = "TITLE_CHANGED", [38] = "INFO_CHANGED", [39] = "RULES_CHANGED", [40] = "MEMBER_MUTED", [41] = "MEMBER_BANNED", [42] = "BAN_LIFTED", [43] = "MEMBER_JOINED", [44] = "ARCHIVED", [45] = "DELETED", [46] = "PUBLIC_NAME_CHANGED", [50] = "RETENTION_CHANGED" }
local method_names = { [1] = "USER_RESOLVE", [2] = "USER_GET", [10] = "DIRECT_OPEN", [11] = "CONVERSATION_CREATE", [12] = "CONVERSATION_GET", [13] = "CONVERSATION_LIST", [14] = "CONVERSATION_SET_TITLE", [20] = "MEMBER_LIST", [21] = "MEMBER_ADD", [22] = "MEMBER_REMOVE", [23] = "MEMBER_LEAVE", [24] = "MEMBER_SET_ROLE", [30] = "DEVICE_LIST", [31] = "DEVICE_REVOKE", [32] = "DEVICE_KEY_CREATE", [33] = "PASSWORD_SET", [34] = "DEVICE_KICK", [40] = "PROFILE_GET", [41] = "PROFILE_SET", [42] = "ACCOUNT_UPGRADE", [43] = "CONTACT_REQUEST", [44] = "CONTACT_ANSWER", [45] = "CONTACT_REMOVE", [46] = "BLOCK", [47] = "RELATION_LIST", [50] = "CONVERSATION_SET_INFO", [51] = "CONVERSATION_SET_RULES", [52] = "CONVERSATION_RULES", [53] = "CONVERSATION_ARCHIVE", [54] = "CONVERSATION_DELETE", [55] = "PUBLIC_NAME_SET", [56] = "PUBLIC_FIND", [57] = "PUBLIC_JOIN", [60] = "ROLE_LIST", [61] = "MEMBER_MUTE", [62] = "MEMBER_BAN", [63] = "BAN_LIFT", [64] = "RESTRICTION_LIST", [66] = "INVITE_CREATE", [67] = "INVITE_LIST", [68] = "INVITE_REVOKE", [69] = "INVITE_LOOK", [70] = "INVITE_JOIN", [71] = "JOIN_REQUEST_LIST", [72] = "JOIN_REQUEST_ANSWER", [75] = "OWN_SET", [76] = "OWN_HIDE", [77] = "OWN_LIST", [80] = "REPORT", [81] = "REPORT_LIST", [82] = "REPORT_RESOLVE", [83] = "DESK_SET", [84] = "DESK_LIST", [85] = "CASE_OPEN", [86] = "CASE_LIST", [87] = "CASE_ASSIGN", [88] = "CASE_CLOSE", [89] = "CASE_RATE", [100] = "ADMIN_USER_CREATE", [101] = "ADMIN_USER_LIST", [102] = "ADMIN_USER_REVOKE", [103] = "ADMIN_API_KEY_CREATE", [104] = "ADMIN_API_KEY_REVOKE", [105] = "ADMIN_WHY", [106] = "ADMIN_STATS", [200] = "MESSAGE_SCHEDULE", [201] = "SCHEDULED_LIST", [202] = "SCHEDULED_CANCEL", [203] = "DRAFT_SET", [204] = "DRAFT_LIST", [205] = "MENTIONS_UNREAD", [206] = "MESSAGE_STATES", [207] = "PIN_LIST", [208] = "DEVICE_OPEN", [209] = "COMMAND_LIST", [210] = "KIND_LIST", [220] = "SEARCH", [221] = "RETENTION_SET", [222] = "RETENTION_GET", [223] = "EVENT_VERSIONS", [224] = "SEARCH_REBUILD", [240] = "RECEIPT_GET", [241] = "PRESENCE_SET", [242] = "PRESENCE_AUDIENCE", [243] = "PRESENCE_FOLLOW", [244] = "PRESENCE_UNFOLLOW", [245] = "TELEMETRY_LAST" }
local op_names = { [1] = "PING", [2] = "PONG", [3] = "GOAWAY", [16] = "EPHEMERAL", [17] = "RECEIPT", [18] = "STREAM_DELTA", [19] = "STREAM_SNAPSHOT", [20] = "NOTICE", [129] = "HELLO", [130] = "CHALLENGE", [131] = "AUTH", [132] = "WELCOME", [133] = "RESUME", [134] = "RESUMED", [135] = "REAUTH", [136] = "REDIRECT", [137] = "BYE", [138] = "ERROR", [144] = "SEND", [145] = "SEND_ACK", [146] = "SEND_NAK", [147] = "SKIP", [148] = "DELIVER", [149] = "ACK", [150] = "READ", [151] = "LAG", [152] = "CHUNK", [153] = "STREAM_START", [154] = "STREAM_END", [160] = "SYNC", [161] = "SYNC_PAGE", [162] = "PULL", [163] = "PULL_END", [164] = "SUBSCRIBE", [165] = "UNSUBSCRIBE", [176] = "REQUEST", [177] = "REPLY" }
local records = {
  receipt = { { "user", "varint" }, { "delivered_seq", "varint" }, { "read_seq", "varint" } },
  pull_range = { { "cid", "varint" }, { "from_seq", "varint" }, { "to_seq", "varint" } },
  omitted = { { "from_seq", "varint" }, { "count", "varint" } },
  reaction_count = { { "emoji", "str" }, { "count", "varint" }, { "mine", "u8" } },
  sync_entry = { { "cid", "varint" }, { "kind", "u8" }, { "state", "u8" }, { "head_seq", "varint" }, { "floor_seq", "varint" }, { "message_count", "varint" }, { "read_seq", "varint" }, { "read_count", "varint" }, { "last_sender", "varint" }, { "last_time", "time40" }, { "last_kind", "varint" }, { "last_preview", "bytes" } },
  denial = { { "role", "u8" }, { "rights", "varint" } },
  user = { { "user", "varint" } },
}
local ops = {
  [1] = { name = "PING", flags = { [2] = "REPLY_WANTED" },
    { "echo", "rest" } },
  [2] = { name = "PONG", flags = {  },
    { "echo", "rest" } },
  [3] = { name = "GOAWAY", flags = {  },
    { "reason", "u16", names = close_names }, { "window_ms", "varint" }, { "ticket", "bytes" } },
  [16] = { name = "EPHEMERAL", flags = { [1] = "EXT" }, ext = 3,
    { "cid", "varint" }, { "sender", "varint" }, { "kind", "varint", names = ephemeral_kind_names }, { "payload", "rest" } },
  [17] = { name = "RECEIPT", flags = {  },
    { "cid", "varint" }, { "entries", "list", "receipt" } },
  [18] = { name = "STREAM_DELTA", flags = {  },
    { "cid", "varint" }, { "stream", "varint" }, { "offset", "varint" }, { "payload", "rest" } },
  [19] = { name = "STREAM_SNAPSHOT", flags = {  },
    { "cid", "varint" }, { "stream", "varint" }, { "sender", "varint" }, { "kind", "varint" }, { "payload", "rest" } },
  [20] = { name = "NOTICE", flags = {  },
    { "topic", "varint" }, { "content", "msgpack" } },
  [129] = { name = "HELLO", flags = { [1] = "EXT" }, ext = 6,
    { "major", "u8" }, { "features", "varint" }, { "frame_bytes_max", "u16" }, { "window_frames", "varint" }, { "window_bytes", "varint" }, { "agent", "str" } },
  [130] = { name = "CHALLENGE", flags = {  },
    { "nonce", "bytes16" } },
  [131] = { name = "AUTH", flags = { [1] = "EXT" }, ext = 5,
    { "credential", "u8", names = credential_names }, { "device", "varint" }, { "identity", "str" }, { "proof", "bytes" }, { "label", "str" } },
  [132] = { name = "WELCOME", flags = { [1] = "EXT" }, ext = 15,
    { "user", "varint" }, { "device", "varint" }, { "session_epoch", "varint" }, { "cseq_stored", "varint" }, { "features", "varint" }, { "frame_bytes_max", "u16" }, { "window_frames", "varint" }, { "window_bytes", "varint" }, { "frames_per_s", "varint" }, { "sends_per_s", "varint" }, { "heartbeat_ms", "varint" }, { "time", "time40" }, { "log_epoch", "varint" }, { "cursor", "bytes" }, { "ticket", "bytes" } },
  [133] = { name = "RESUME", flags = { [1] = "EXT" }, ext = 3,
    { "ticket", "bytes" }, { "log_epoch", "varint" }, { "cursor", "bytes" } },
  [134] = { name = "RESUMED", flags = { [1] = "EXT" }, ext = 16,
    { "continuity", "u8" }, { "user", "varint" }, { "device", "varint" }, { "session_epoch", "varint" }, { "cseq_stored", "varint" }, { "features", "varint" }, { "frame_bytes_max", "u16" }, { "window_frames", "varint" }, { "window_bytes", "varint" }, { "frames_per_s", "varint" }, { "sends_per_s", "varint" }, { "heartbeat_ms", "varint" }, { "time", "time40" }, { "log_epoch", "varint" }, { "cursor", "bytes" }, { "ticket", "bytes" } },
  [135] = { name = "REAUTH", flags = {  },
    { "credential", "u8", names = credential_names }, { "identity", "str" }, { "proof", "bytes" } },
  [136] = { name = "REDIRECT", flags = {  },
    { "host", "str" }, { "port", "u16" }, { "retry_after_ms", "varint" } },
  [137] = { name = "BYE", flags = {  },
    { "reason", "u16", names = close_names }, { "retry_after_ms", "varint" }, { "text", "str" } },
  [138] = { name = "ERROR", flags = { [2] = "RETRYABLE" },
    { "code", "u16", names = error_names }, { "op", "u8" }, { "ref", "varint" }, { "retry_after_ms", "varint" }, { "text", "str" } },
  [144] = { name = "SEND", flags = { [1] = "EXT" }, ext = 3,
    { "cseq", "varint" }, { "cid", "varint" }, { "kind", "varint", names = kind_names }, { "payload", "rest" } },
  [145] = { name = "SEND_ACK", flags = { [2] = "DUP", [4] = "SKIPPED" },
    { "cseq", "varint" }, { "cid", "varint" }, { "seq", "varint" }, { "time", "time40" } },
  [146] = { name = "SEND_NAK", flags = { [2] = "RETRYABLE" },
    { "cseq", "varint" }, { "cid", "varint" }, { "code", "u16", names = error_names }, { "retry_after_ms", "varint" }, { "text", "str" } },
  [147] = { name = "SKIP", flags = {  },
    { "cseq", "varint" } },
  [148] = { name = "DELIVER", flags = { [16] = "TOMBSTONE", [1] = "EXT", [2] = "HISTORY", [4] = "STUB", [8] = "COMPRESSED" }, ext = 5,
    { "cid", "varint" }, { "seq", "varint" }, { "sender", "varint" }, { "time", "time40" }, { "kind", "varint", names = kind_names }, { "payload", "rest" } },
  [149] = { name = "ACK", flags = {  },
    { "count", "varint" } },
  [150] = { name = "READ", flags = {  },
    { "cid", "varint" }, { "seq", "varint" } },
  [151] = { name = "LAG", flags = {  },
    { "cid", "varint" }, { "from_seq", "varint" }, { "to_seq", "varint" } },
  [152] = { name = "CHUNK", flags = {  },
    { "cid", "varint" }, { "seq", "varint" }, { "offset", "varint" }, { "total", "varint" }, { "data", "rest" } },
  [153] = { name = "STREAM_START", flags = {  },
    { "cid", "varint" }, { "stream", "varint" }, { "kind", "varint" } },
  [154] = { name = "STREAM_END", flags = {  },
    { "cid", "varint" }, { "stream", "varint" }, { "cseq", "varint" } },
  [160] = { name = "SYNC", flags = {  },
    { "cursor", "bytes" }, { "limit", "varint" } },
  [161] = { name = "SYNC_PAGE", flags = { [2] = "MORE" },
    { "cursor", "bytes" }, { "entries", "list", "sync_entry" } },
  [162] = { name = "PULL", flags = { [1] = "EXT" }, ext = 4,
    { "cid", "varint" }, { "from_seq", "varint" }, { "to_seq", "varint" }, { "limit", "varint" } },
  [163] = { name = "PULL_END", flags = { [1] = "EXT" }, ext = 4,
    { "cid", "varint" }, { "next_seq", "varint" }, { "head_seq", "varint" }, { "floor_seq", "varint" } },
  [164] = { name = "SUBSCRIBE", flags = {  },
    { "cid", "varint" }, { "topics", "varint" } },
  [165] = { name = "UNSUBSCRIBE", flags = {  },
    { "cid", "varint" } },
  [176] = { name = "REQUEST", flags = {  },
    { "id", "varint" }, { "method", "varint", names = method_names }, { "params", "msgpack" } },
  [177] = { name = "REPLY", flags = { [2] = "RETRYABLE" },
    { "id", "varint" }, { "code", "u16", names = error_names }, { "retry_after_ms", "varint" }, { "result", "msgpack" } },
}

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
