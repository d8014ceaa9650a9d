--- Malformed weight files, made from good ones: for each format a good file, and changed ones with
-- the message that refuses each. tests/lua/malformed_spec.lua holds the reader to the messages;
-- tests/fuzz/seeds.lua gives the files to libFuzzer to begin with.

local malformed = {}

--- `text` with one plain piece of it exchanged.
local function exchange(text, from, to)
    local first, last = text:find(from, 1, true)
    assert(first, "there is no " .. from)
    return text:sub(1, first - 1) .. to .. text:sub(last + 1)
end

-- ---------------------------------------------------------------- safetensors

local header = '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
    .. '"b":{"dtype":"U8","shape":[3],"data_offsets":[8,11]}}'
local DATA = "\0\0\0\0\0\0\x80\x3fxyz"

local function safetensors(text, data, length)
    return string.pack("<I8", length or #text) .. text .. (data or DATA)
end

local function a(from, to) return safetensors(exchange(header, from, to)) end

local offsets = "tensor 'a': has data_offsets that are not [begin, end]"
local natural = "tensor 'a': has a shape of something other than natural numbers"
local no_json = "its header is not valid JSON "

malformed.safetensors = {good = safetensors(header),
    {safetensors(header, DATA, 1000), "its header of 1000 bytes does not fit the file of 126 bytes"},
    {safetensors(header, DATA, -1),
        "its header of 18446744073709551615 bytes does not fit the file of 126 bytes"},
    {safetensors(header, DATA, 0), "its header is empty"},
    {safetensors(header, DATA, #header - 1), no_json .. "(byte 106: '}' expected near end of file)"},
    {safetensors(header, DATA, #header + 2),
        "tensor 'b': ends at byte 11 of the data, of which the file has 9"},
    {safetensors('{"a":}', ""), "tensor 'a': has a description that is not an object"},
    {safetensors('{"a":{"x":}}', ""), no_json .. "(byte 11: unexpected token near '}')"},
    {safetensors(header .. "{", DATA), no_json .. "(byte 108: end of file expected near '{')"},
    {safetensors('{"a\\q":1}', ""), no_json .. "(byte 5: invalid escape near 'q')"},
    {safetensors('{"a\\ud800x":1}', ""), no_json .. "(byte 10: invalid escape near 'x')"},
    {safetensors('{"a\\udc00":1}', ""), no_json .. "(byte 10: invalid escape near '\"')"},
    {safetensors('{"\xed\xa0\x80":1}', ""), no_json .. "(byte 3: invalid UTF-8 near byte 0xed)"},
    {safetensors('{"a":{"x":01}}', ""), no_json .. "(byte 12: invalid number near '1')"},
    {safetensors('{"a":{"x":[1 2]}}', ""), no_json .. "(byte 14: ']' expected near '2')"},
    {safetensors('{"a":{"x" 1}}', ""), no_json .. "(byte 11: ':' expected near '1')"},
    {safetensors('{"a', ""), no_json .. "(byte 3: premature end of a string near end of file)"},
    {safetensors('{"__metadata__":[' .. ("{},"):rep(100) .. "{}]}", ""),
        "its __metadata__ is not a map of texts"},
    {safetensors('{"__metadata__":{"format":"pt","epoch":3}}', ""),
        "its __metadata__ has 'epoch', which is not text"},
    {safetensors('{"\\u005f_metadata__":{"a":{}}}', ""), "its __metadata__ has 'a', which is not text"},
    {a('"dtype"', '"dtype":"U8","dtype"'), "tensor 'a': has its dtype twice"},
    {a('"shape"', '"shape":[],"shape"'), "tensor 'a': has its shape twice"},
    {a('"data_offsets"', '"data_offsets":[0,8],"data_offsets"'),
        "tensor 'a': has its data_offsets twice"},
    {safetensors(('{"a":'):rep(3000), ""), no_json .. "(byte 331: nested too deeply near '{')"},
    {safetensors('{"a":' .. ("["):rep(3000), ""), "tensor 'a': has a description that is not an object"},
    {safetensors('{"\xff":1}', ""), no_json .. "(byte 3: invalid UTF-8 near byte 0xff)"},
    {a('"b"', '"a"'), "holds a tensor 'a' twice"},
    {a("[2]", "[99999999999999999999]"), natural},
    {a('"b"', '"\\u0000"'), no_json .. "(byte 62: a NUL byte in a string near '\"')"},
    {a('{"dtype":"F32","shape":[2],"data_offsets":[0,8]}', "[]"),
        "tensor 'a': has a description that is not an object"},
    {a('"dtype":"F32",', ""), "tensor 'a': has no dtype"},
    {a('"F32"', "32"), "tensor 'a': has no dtype"},
    {a('"F32"', '"f32"'), "tensor 'a': has dtype 'f32'; F64, F32, F16, BF16, I64, I32, I16, I8, U8 and "
        .. "BOOL are supported"},
    {a('"shape":[2],', ""), "tensor 'a': has no shape"},
    {a("[2]", '"2"'), "tensor 'a': has no shape"},
    {a("[2]", "[2,1,1,1,1,1,1,1,1]"), "tensor 'a': has 9 dimensions, at most 8 are supported"},
    {a("[2]", "[-2]"), natural},
    {a("[2]", "[2.0]"), natural},
    {a("[2]", "[null]"), natural},
    {a("[2]", "[9223372036854775807,3]"),
        "tensor 'a': has a shape [9223372036854775807,3] of more bytes than can be counted"},
    {a("[2]", "[3]"), "tensor 'a': is F32 [3], which takes 12 bytes, but has 8"},
    {a("[2]", "[]"), "tensor 'a': is F32 [], which takes 4 bytes, but has 8"},
    {a("[2]", "[0]"), "tensor 'a': is F32 [0], which takes 0 bytes, but has 8"},
    {a(',"data_offsets":[0,8]', ""), offsets},
    {a("[0,8]", "8"), offsets},
    {a("[0,8]", "[0]"), offsets},
    {a("[0,8]", "[0,8,11]"), offsets},
    {a("[0,8]", "[0,8.0]"), offsets},
    {a("[0,8]", "[null,8]"), offsets},
    {a("[0,8]", "[-8,0]"), offsets},
    {a("[0,8]", "[8,0]"), offsets},
    {a("[0,8]", "[4,12]"), "tensor 'a': ends at byte 12 of the data, of which the file has 11"},
    {a("[0,8]", "[3,11]"), "3 bytes before tensor 'a' belong to no tensor"},
    {a("[8,11]", "[7,10]"), "tensors 'a' and 'b' overlap"},
    {safetensors(header, DATA .. "12"), "the last 2 bytes belong to no tensor"},
    {safetensors(header, DATA:sub(1, 10)),
        "tensor 'b': ends at byte 11 of the data, of which the file has 10"},
    {safetensors("{}"), "the last 11 bytes belong to no tensor"},
    {a('"a"', '"a\\n\\u001b[31m"') .. "1", "the last 1 bytes belong to no tensor"},
    {a('"F32","shape":[2]', '"F32","shape":[3]'):gsub('"a"', '"\x1b"'),
        no_json .. "(byte 3: control character in a string near byte 0x1b)"},
}

-- ---------------------------------------------------------------- msgpack

local function text(s)
    return #s < 32 and string.char(0xa0 + #s) .. s or string.pack(">B s4", 0xdb, s)
end
local function map(n, ...) return string.char(0x80 + n) .. table.concat {...} end
local function array(...) return string.char(0x90 + select("#", ...)) .. table.concat {...} end
local function binary(s) return string.pack(">B s1", 0xc4, s) end

local VERSION = text "version" .. "\1"
local function file(tensors, version)
    return map(3, text "format", text "advrt.tensors", version or VERSION, text "tensors", tensors)
end
local function tensor(dtype, shape, data)
    return map(3, text "dtype", dtype, text "shape", shape, text "data", data)
end
local TWO = tensor(text "f32", array("\2"), binary("\0\0\0\0\0\0\x80\x3f"))
local function one(description) return file(map(1, text "a", description)) end

local no_start = "a msgpack file that does not start with format = 'advrt.tensors'"
local claims = "is cut off or damaged: a value claims "
local early = "tensor 'a': has its data before its dtype and shape"

malformed.msgpack = {good = one(TWO),
    {map(1, text "format", text "other"), no_start},
    {map(1, text "format", "\7"), no_start},
    {map(1, text "format", text(("x"):rep(70))), no_start},
    {map(1, text "format", text "advrt.tensors"), "holds no 'tensors'"},
    {map(3, text "format", text "advrt.tensors", text "tensors", map(0), VERSION),
        "has no version after its format"},
    {file(map(0), text "version" .. "\2"), "has version 2 of its format, 1 is supported"},
    {file(map(0), text "version" .. "\xff"), "has version -1 of its format, 1 is supported"},
    {file(map(0), text "version" .. text "1"), "its version is a text, wants an integer"},
    {file(map(0), text "version" .. "\xcf" .. ("\xff"):rep(8)),
        "holds the integer 18446744073709551615, beyond 63 bits"},
    {file("\xc0"), "'tensors' is nil, wants a map"},
    {file(array()), "'tensors' is an array, wants a map"},
    {file(map(1, "\1", TWO)), "a tensor's name is an integer, wants a text"},
    {file(map(1, text(("x"):rep(5000)), TWO)), "a tensor's name has 5000 bytes, at most 4095 are allowed"},
    {file(map(1, text "a\0b", TWO)), "a tensor's name holds a NUL byte"},
    {file(map(2, text "a", TWO, text "a", TWO)), "holds a tensor 'a' twice"},
    {one("\xc3"), "tensor 'a': its description is a boolean, wants a map"},
    {one(map(0)), "tensor 'a': has no data"},
    {one(map(1, text "dtype", text "f32")), "tensor 'a': has no data"},
    {one(map(1, "\5", text "f32")), "tensor 'a': a key of its description is an integer, wants a text"},
    {one(map(1, text "data", binary "1")), early},
    {one(map(2, text "dtype", text "u8", text "data", binary "1")), early},
    {one(map(2, text "shape", array(), text "data", binary "1")), early},
    {one(tensor("\xcb" .. ("\0"):rep(8), array(), binary "1")),
        "tensor 'a': its dtype is a real, wants a text"},
    {one(tensor(text "F32", array(), binary "1234")), "tensor 'a': has dtype 'F32'; f64, f32, f16, bf16, "
        .. "i64, i32, i16, i8, u8 and bool are supported"},
    {one(tensor(text "f\27[31m", array(), binary "1234")), "tensor 'a': has dtype 'f?[31m'; f64, f32, f16, "
        .. "bf16, i64, i32, i16, i8, u8 and bool are supported"},
    {one(tensor(text "u8", "\1", binary "1")), "tensor 'a': its shape is an integer, wants an array"},
    {one(tensor(text "u8", array("\1", "\1", "\1", "\1", "\1", "\1", "\1", "\1", "\1"), binary "1")),
        "tensor 'a': has 9 dimensions, at most 8 are supported"},
    {one(tensor(text "u8", array(text "1"), binary "1")),
        "tensor 'a': a size of its shape is a text, wants an integer"},
    {one(tensor(text "u8", array("\xff"), binary "1")), "tensor 'a': has a negative size in its shape [-1]"},
    {one(tensor(text "f64", array("\xcf\x40" .. ("\0"):rep(7), "\4"), binary "1")), "tensor 'a': has a "
        .. "shape [4611686018427387904,4] of more bytes than can be counted"},
    {one(tensor(text "u8", array("\2"), text "12")), "tensor 'a': its data is a text, wants binary"},
    {one(tensor(text "f32", array("\2"), binary "1234")),
        "tensor 'a': is f32 [2], which takes 8 bytes, but has 4"},
    {one(tensor(text "u8", array("\0"), binary "1")),
        "tensor 'a': is u8 [0], which takes 0 bytes, but has 1"},
    {one(tensor(text "u8", array("\4"), "\xc4\4" .. "12")),
        "tensor 'a': " .. claims .. "4 bytes, 2 bytes are left"},
    {file("\xdf\xff\xff\xff\xff"), claims .. "4294967295 elements, 0 bytes are left"},
    {file("\xde\0\4" .. text "a"), claims .. "4 elements, 2 bytes are left"},
    {one(map(1, text "extra", "\xdd\xff\xff\xff\xff")),
        "tensor 'a': " .. claims .. "4294967295 elements, 0 bytes are left"},
    {one(map(1, text "extra", "\xdb\xff\xff\xff\xff")),
        "tensor 'a': " .. claims .. "4294967295 bytes, 0 bytes are left"},
    {one(map(1, text "extra", "\xc9\xff\xff\xff\xff\1")),
        "tensor 'a': " .. claims .. "4294967295 bytes, 0 bytes are left"},
    {one(map(4, text "dtype", text "u8", text "shape", array(), text "data", binary "1", text "extra",
        "\xc1")),
        "tensor 'a': holds the byte 0xc1, which is not msgpack"},
    {one(map(1, text "extra", "\xc1")), "tensor 'a': holds the byte 0xc1, which is not msgpack"},
    {one(map(1, text "extra", ("\x91"):rep(9))), "tensor 'a': " .. claims .. "1 elements, 0 bytes are left"},
    {one(TWO) .. "\0\0", "has 2 bytes after its end"},
    {one(TWO):sub(1, -2), "tensor 'a': " .. claims .. "8 bytes, 7 bytes are left"},
}

-- ---------------------------------------------------------------- pickles, in both kinds of .pth

local function key(c) return "U" .. string.pack("<s1", c) end
local function storage(options)
    local o = options or {}
    return "(" .. (o.tag or key "storage") .. (o.type or "ctorch\nFloatStorage\n") .. (o.key or key "0")
        .. key "cpu" .. (o.count or "K\3") .. (o.view or "") .. "tQ"
end
local function vector(o)
    o = o or {}
    return "ctorch._utils\n_rebuild_tensor_v2\n(" .. (o.storage or storage(o)) .. (o.offset or "K\0")
        .. (o.shape or "K\3\x85") .. (o.strides or "K\1\x85") .. "\x89}tR"
end
local function dictionary(value, name) return "\x80\2}" .. (name or key "a") .. value .. "s." end
local function made(o) return dictionary(vector(o)) end
local GOOD = made()
local FLOATS = string.pack("<fff", 0, 1, 2)

local only = " (only tensors are read from a .pth file)"
local damaged = "its pickle is damaged near byte "
local no_storage = "refers to something stored outside its pickle that is not a storage"
local no_tensor = "holds a tensor that is not made from a storage"
local way_out = 'in PyTorch, save the weights by torch.save({"state_dict": model.state_dict()}, FILE)'

--- {pickle, message, byte}: %d in the message stands for the byte, counted from the pickle's first;
-- empty: no tensor of the pickle has a storage; other: its storage is of complex numbers.
local pickles = {
    {"\x80\2cos\nsystem\n" .. key "ls" .. "\x85R.", "refuses to run 'os.system'" .. only},
    {"\x80\2" .. key "builtins" .. key "eval" .. "\x93)R.", "refuses to run 'builtins.eval'" .. only},
    {"\x80\2(ios\nsystem\n.", "refuses to run 'os.system'" .. only},
    {"\x80\2(cos\nsystem\n" .. key "ls" .. "o.", "refuses to run 'os.system'" .. only},
    {"\x80\2cos\nsystem\n" .. key "ls" .. "\x85}\x92.", "refuses to run 'os.system'" .. only},
    {"\x80\2cos\nsystem\n.", "refuses to run 'os.system'" .. only, empty = true},
    {dictionary("c__builtin__\neval\n" .. key "1" .. "\x85\x81"),
        "refuses to run '__builtin__.eval'" .. only},
    {"\x80\2(o.", damaged .. "%d: it calls a value that is not a function", 4},
    {"\x80\2cm\nM\n)R.", "holds an object of 'm.M' instead of named tensors;  " .. way_out, empty = true},
    {"\x80\2(cm\nM\nNo}b.", "holds an object of 'm.M' instead of named tensors;  " .. way_out, empty = true},
    {dictionary("cm\nf\n)R"), "holds no named tensors: 'a' is made by 'm.f', which is never run; "
        .. way_out, empty = true},
    {dictionary("ctorch._utils\n_rebuild_tensor_v2\n(" .. storage {type = "ctorch\nComplexFloatStorage\n"}
        .. "K\0K\3\x85K\1\x85\x89}tR"), "holds no named tensors: 'a' is made by "
        .. "'torch.ComplexFloatStorage', which is never run; " .. way_out, other = true},
    {made {key = "X\0\1\0\0" .. ("k"):rep(256)}, "has a storage with a name longer than 255 bytes"},
    {dictionary(vector(), "X\0\x10\0\0" .. ("n"):rep(4096)),
        "a tensor's name has 4096 bytes, at most 4095 are allowed"},
    {"\x80\2" .. key "m" .. "X\0\1\0\0" .. ("n"):rep(256) .. "\x93.",
        "its pickle has a name longer than 255 bytes"},
    {"\x80\2ctorch\nComplexFloatStorage\n.",
        "holds a tensor of type 'torch.ComplexFloatStorage', which is not supported", empty = true},
    {"\x80\2c" .. ("m"):rep(300) .. "\nx\n.", "its pickle has a name longer than 255 bytes"},
    {"\x80\2ctorch\nfloat32\n)R.", "refuses to run 'torch.float32'" .. only},
    {"\x80\1}.", "its pickle has protocol 1, 2 to 5 are supported"},
    {"\x80\6}.", "its pickle has protocol 6, 2 to 5 are supported"},
    {"\x80\2}\x81.", damaged .. "%d: it takes a value where there is none", 4},
    {"\x80\2}\x82.", "its pickle has opcode 0x82 at byte %d, which no tensor needs", 3},
    {"\x80\2I1\n.", "its pickle has opcode 0x49 at byte %d, which no tensor needs", 2},
    {"\x80\2.", damaged .. "%d: it takes a value where there is none", 3},
    {"\x80\2(K\1(0.", damaged .. "%d: it takes a value where there is none", 7},
    {"\x80\2]2\x93.", damaged .. "%d: the name of a global is not text", 5},
    {"\x80\2(2.", damaged .. "%d: it doubles a value where there is none", 4},
    {"\x80\2u.", damaged .. "%d: it ends a list that was never begun", 3},
    {"\x80\2K\1\x86.", damaged .. "%d: a tuple needs more values than there are", 5},
    {"\x80\2a.", damaged .. "%d: it fills a container with nothing", 3},
    {"\x80\2K\1a.", damaged .. "%d: it fills a container where there is none", 5},
    {"\x80\2]K\1K\1s.", damaged .. "%d: it fills a value that is not a container of that kind", 8},
    {"\x80\2}(K\1u.", damaged .. "%d: a key has no value", 7},
    {"\x80\2(K\1d.", damaged .. "%d: a key has no value", 6},
    {"\x80\2q\0.", damaged .. "%d: it remembers a value where there is none", 4},
    {"\x80\2Nr\xff\xff\xff\0.", damaged .. "%d: it numbers its memory out of order", 8},
    {"\x80\2h\0.", damaged .. "%d: it recalls a value that it never stored", 4},
    {"\x80\2NNR.", damaged .. "%d: it calls a value that is not a function", 5},
    {"\x80\2" .. ("("):rep(300) .. ".",
        damaged .. "%d: containers are nested more deeply than a list of tensors is", 259},
    {"\x80\2X\0\0\0\x7f.", "is cut off: it ends inside its pickle"},
    {"\x80\2NQ.", no_storage},
    {made {tag = key "module"}, no_storage},
    {made {type = "ctorch\nfloat32\n"}, no_storage},
    {made {key = "K\0"}, no_storage},
    {made {count = "J\xff\xff\xff\xff"}, no_storage},
    {made {view = "NN"}, no_storage},
    {made {view = "(" .. key "v" .. "K\2K\2t"}, "storage '0' has a view that reaches outside it"},
    {made {view = "(" .. key "v" .. "K\2t"}, "storage '0' has a view that reaches outside it"},
    {made {view = "(" .. key "v" .. "NK\1t"}, "storage '0' has a view that reaches outside it"},
    {made {view = "(" .. key "v" .. "K\0Nt"}, "storage '0' has a view that reaches outside it"},
    {made {view = "(" .. key "v" .. "K\4K\0t"}, "storage '0' has a view that reaches outside it"},
    {made {view = "(" .. key "v" .. "J\xff\xff\xff\xffK\1t"},
        "storage '0' has a view that reaches outside it"},
    {made {view = "(" .. key "v" .. "K\0J\xff\xff\xff\xfft"},
        "storage '0' has a view that reaches outside it"},
    {made {view = "K\1"}, "storage '0' has a view that reaches outside it"},
    {made {storage = "N"}, no_tensor},
    {made {storage = vector()}, no_tensor},
    {dictionary("ctorch._utils\n_rebuild_tensor_v2\n" .. storage() .. "K\0)\x87R"), no_tensor},
    {made {offset = "\x8a\8" .. ("\xff"):rep(7) .. "\x7f"},
        "a tensor [3] reaches outside its storage '0' of 3 elements"},
    {made {shape = "]K\4a", strides = "]K\1a"}, "a tensor [4] reaches outside its storage '0' of 3 elements"},
    {dictionary("ctorch\nSize\n]\x85R"), "holds no named tensors; " .. way_out, empty = true},
    {made {strides = "K\1"}, "holds a tensor whose shape or strides are not a tuple"},
    {dictionary("ctorch._utils\n_rebuild_parameter\n)R"), "holds a parameter that is not a tensor"},
    {dictionary("ctorch._utils\n_rebuild_parameter\n" .. storage() .. "\x85R"),
        "holds a parameter that is not a tensor"},
    {dictionary("ctorch\nSize\n)R"), "holds a torch.Size that is not made of sizes"},
    {dictionary("ccollections\nOrderedDict\n](K\1e\x85R"), "holds a dictionary that is not made of pairs"},
    {dictionary("ccollections\nOrderedDict\n]((NNNte\x85R"), "holds a dictionary that is not made of pairs"},
    {dictionary("ccollections\nOrderedDict\n]((Nlcos\nx\n\x85R"), damaged
        .. "%d: it calls a value that is not a function", 44},
    {"\x80\2" .. key "a" .. "N\x93.", damaged .. "%d: the name of a global is not text", 7},
    {made {offset = "N"}, no_tensor},
    {made {offset = "J\xff\xff\xff\xff"}, no_tensor},
    {made {shape = "K\3"}, "holds a tensor whose shape or strides are not a tuple"},
    {made {shape = "N\x85"}, "holds a tensor whose shape or strides are not natural numbers"},
    {made {strides = "J\xff\xff\xff\xff\x85"},
        "holds a tensor whose shape or strides are not natural numbers"},
    {made {shape = "(" .. ("K\1"):rep(9) .. "t"}, "holds a tensor of 9 dimensions, at most 8 are supported"},
    {made {strides = ")"}, "holds a tensor of 1 dimensions with 0 strides"},
    {made {offset = "K\1"}, "a tensor [3] reaches outside its storage '0' of 3 elements"},
    {made {strides = "K\2\x85"}, "a tensor [3] reaches outside its storage '0' of 3 elements"},
    {made {strides = "\x8a\8" .. ("\xff"):rep(7) .. "\x7f\x85"},
        "a tensor [3] reaches outside its storage '0' of 3 elements"},
    {made {shape = ("J\0\0\0\x7f"):rep(3) .. "\x87", strides = "K\0K\0K\0\x87"}, "a tensor of storage '0': "
        .. "has a shape [2130706432,2130706432,2130706432] of more bytes than can be counted"},
    {dictionary("ctorch._utils\n_rebuild_parameter\nN\x89}\x87R"), "holds a parameter that is not a tensor"},
    {dictionary("ctorch\nSize\nN\x85R"), "holds a torch.Size that is not made of sizes"},
    {dictionary("ccollections\nOrderedDict\nN\x85R"), "holds a dictionary that is not made of pairs"},
    {dictionary("ccollections\nOrderedDict\n](NNNte\x85R"), damaged .. "%d: it ends a list that was never "
        .. "begun", 38},
    {dictionary("ccollections\nOrderedDict\n](NNNlea\x85R"), damaged .. "%d: it ends a list that was never "
        .. "begun", 38},
    {"\x80\2\x8a\1\5.", "holds no named tensors; " .. way_out, empty = true},
    {"\x80\2" .. ("N\x94"):rep(600) .. ".",
        "holds no named tensors; " .. way_out, empty = true},
    {"\x80\2ccollections\nOrderedDict\nq\0](" .. ("NN\x86"):rep(2000) .. "eq\1" .. ("h\0h\1\x85R"):rep(3000)
        .. ".", "the values of its pickle need more than 128 bytes of memory for each of its %d bytes", 6088},
    {"\x80\2" .. vector() .. ".",
        "holds one tensor without a name; " .. way_out},
    {"\x80\2}.",
        "holds no named tensors; " .. way_out, empty = true},
    {dictionary(vector(), key "a\0b"), "a tensor's name holds a NUL byte"},
    {"\x80\2}" .. key "a" .. vector() .. "s" .. key "b" .. vector {count = "K\4"} .. "s.",
        "storage '0' is both f32 of 3 elements and f32 of 4"},
    {"\x80\2}" .. key "a" .. vector() .. "s" .. key "a" .. vector() .. "s.", "holds a tensor 'a' twice"},
}

-- ---------------------------------------------------------------- .pth, zip

local function crc32(bytes)
    local c = 0xffffffff
    for i = 1, #bytes do
        c = c ~ bytes:byte(i)
        for _ = 1, 8 do c = c & 1 == 1 and c >> 1 ~ 0xedb88320 or c >> 1 end
    end
    return c ~ 0xffffffff
end

--- A zip archive of {name, bytes, method =, flags =, crc =, at =, own =}, stored as they are, or packed:
-- plain = what the bytes unpack to, unpacked = the size that the headers say of that; own: what the header
-- before an entry says instead.
local function zip(...)
    local locals, central, at = {}, {}, 0
    for _, entry in ipairs {...} do
        local bytes = entry[2]
        local function before(of)
            return string.pack("<I2I2I2I2I2I4I4I4I2I2", 20, of.flags or 0, of.method or 0, 0, 0x21,
                of.crc or crc32(of.plain or bytes), of.size or #bytes, of.unpacked or of.size
                    or #(of.plain or bytes), #of[1], 0)
        end
        local own = setmetatable(entry.own or {}, {__index = entry})
        locals[#locals + 1] = "PK\3\4" .. before(own) .. own[1] .. bytes
        central[#central + 1] = "PK\1\2\20\0" .. before(entry) .. string.pack("<I2I2I2I4I4", 0, 0, 0, 0,
            entry.at or at) .. entry[1]
        at = at + #locals[#locals]
    end
    local directory = table.concat(central)
    return table.concat(locals) .. directory .. string.pack("<c4I2I2I2I2I4I4I2", "PK\5\6", 0, 0, #central,
        #central, #directory, at, 0)
end

local PICKLE, VALUES = {"x/data.pkl", GOOD}, {"x/data/0", FLOATS}
local whole = zip(PICKLE, VALUES)
local cut = "a zip archive without its end: the file is cut off or damaged"
local as_is = " in the archive is compressed or encrypted; torch.save writes entries as they are"
local disagree = "its zip archive is damaged: an entry and the archive's list of entries do not agree"
local order = "its byte order is not 'little', the only one supported"

malformed.pth_zip = {good = whole,
    {whole:sub(1, -2), cut},
    {whole:sub(1, 40), cut},
    {exchange(whole, "PK\5\6", "PK\5\7"), cut},
    {exchange(whole, "PK\1\2", "PK\1\3"), cut},
    {zip(PICKLE, {"x/data/0", FLOATS, at = 100000}),
        "a zip archive without its end: the file is cut off or damaged"},
    {zip(PICKLE, VALUES, VALUES), "its zip archive has two entries of one name"},
    {zip(PICKLE, VALUES, {"x/data/1", FLOATS, at = 0}), disagree},
    {zip(PICKLE, {"x/data/0", FLOATS, own = {"x/data/1"}}), disagree},
    {zip(PICKLE, {"x/data/0", FLOATS, own = {crc = 7}}), disagree},
    {zip(PICKLE, {"x/data/0", FLOATS, own = {size = 8}}), disagree},
    {zip(PICKLE, {"x/data/0", FLOATS, own = {method = 8}}), disagree},
    {exchange(whole, "PK\5\6\0\0", "PK\5\6\1\0"),
        "the zip archive cannot be read (Multi-disk zip archives not supported)"},
    {zip(), "a zip archive without data.pkl, so not one that torch.save wrote"},
    {zip(VALUES), "a zip archive without data.pkl, so not one that torch.save wrote"},
    {zip({"x/y/data.pkl", GOOD}), "a zip archive without data.pkl, so not one that torch.save wrote"},
    {zip(PICKLE, {"y/data.pkl", GOOD}), "the archive has more than one data.pkl"},
    {zip({("x"):rep(256) .. "/data.pkl", GOOD}), "the archive's folder has a name longer than 255 bytes"},
    {zip(PICKLE), "the archive has no 'x/data/0'"},
    {zip(PICKLE, {"data/0", FLOATS}), "the archive has no 'x/data/0'"},
    {zip(PICKLE, {"x/data/0", FLOATS:sub(1, 8)}), "storage '0' has 8 bytes, 3 elements of f32 want 12"},
    {zip(PICKLE, {"x/data/0", ""}), "storage '0' has 0 bytes, 3 elements of f32 want 12"},
    {zip({"x/data.pkl", GOOD, method = 8}, VALUES), "'x/data.pkl'" .. as_is},
    {zip(PICKLE, {"x/data/0", FLOATS, method = 12}), "'x/data/0'" .. as_is},
    {zip({"x/data.pkl", GOOD, flags = 1}, VALUES), "'x/data.pkl'" .. as_is},
    {zip({"x/data.pkl", GOOD, crc = 7}, VALUES), "'data.pkl' in the archive is damaged (CRC error)"},
    {zip(PICKLE, {"x/data/0", FLOATS, crc = 7}), "'0' in the archive is damaged (CRC error)"},
    {zip({"x/data.pkl", made {count = "\x8a\8" .. ("\xff"):rep(7) .. "\x7f"}}, VALUES),
        "storage '0' has more bytes than can be counted"},
    {zip(PICKLE, VALUES, {"x/byteorder", "big"}), order},
    {zip(PICKLE, VALUES, {"x/byteorder", ""}), order},
    {zip(PICKLE, VALUES, {"x/byteorder", "little-endian"}), order},
    {zip(PICKLE, VALUES, {"x/byteorder", "little", method = 8}), "'x/byteorder'" .. as_is},
    {zip({"x/data.pkl", ""}, VALUES), "is cut off: it ends inside its pickle"},
    {zip({"x/data.pkl", GOOD:sub(1, 50)}, VALUES), "is cut off: it ends inside its pickle"},
}
for _, case in ipairs(pickles) do
    local pickle, message, byte = table.unpack(case)
    table.insert(malformed.pth_zip, {zip({"x/data.pkl", pickle}, VALUES), message:format(byte)})
end

-- ---------------------------------------------------------------- .pth, legacy

local MAGIC = "\x80\2\x8a\10\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
local REVISION, INFO, KEYS = "\x80\2M\xe9\3.", "\x80\2}.", "\x80\2]" .. key "0" .. "a."
local STORED = string.pack("<i8", 3) .. FLOATS

local function legacy(pickle, keys, stored, info)
    return MAGIC .. REVISION .. (info or INFO) .. pickle .. (keys or KEYS) .. (stored or STORED)
end
local START = #(MAGIC .. REVISION .. INFO)

-- For files of another kind (tests/lua/weights_bounds_spec.lua, checkpoints_spec.lua): the parts of a
-- pickle, what makes a legacy file of it, and what makes an archive.
local parts = {legacy = legacy, vector = vector, storage = storage, zip = zip, key = key}
local BIG = "\x80\2}" .. key "little_endian" .. "\x89s."

malformed.pth_legacy = {good = legacy(GOOD),
    {MAGIC:sub(1, 8), "is cut off: it ends inside its pickle"},
    {MAGIC .. REVISION .. INFO, "is cut off: it ends inside its pickle"},
    {legacy(GOOD:sub(1, 60), "", ""), "is cut off: it ends inside its pickle"},
    {"\x80\2K\1.\x80\2K\1.", "a pickle that torch.save did not write"},
    {exchange(legacy(GOOD), "\x6c\xfc", "\x6c\xfd"), "a pickle that torch.save did not write"},
    {exchange(legacy(GOOD), "M\xe9\3", "M\xe8\3"), "its legacy format is not version 1001, the only one "
        .. "supported"},
    {exchange(legacy(GOOD), "M\xe9\3.", "N."),
        "its legacy format is not version 1001, the only one supported"},
    {legacy(GOOD, nil, nil, BIG), order},
    {legacy(GOOD, nil, nil, "\x80\2}" .. key "little_endian" .. "Ns."):sub(1, -2),
        "is cut off: storage '0' of 3 elements of f32 does not fit the 11 bytes left"},
    {legacy(GOOD, nil, nil, "\x80\2K\1."):sub(1, -2),
        "is cut off: storage '0' of 3 elements of f32 does not fit the 11 bytes left"},
    {exchange(legacy(GOOD), "\x8a\10", "\x8a\11"), "a pickle that torch.save did not write"},
    {legacy(GOOD, "\x80\2}."), "has no list of storages after its tensors"},
    {legacy(GOOD, "\x80\2]K\0a."), "lists a storage that no tensor uses, or lists one twice"},
    {legacy(GOOD, "\x80\2]" .. key "1" .. "a."),
        "lists a storage that no tensor uses, or lists one twice"},
    {legacy(GOOD, "\x80\2](" .. key "0" .. key "0" .. "e."),
        "lists a storage that no tensor uses, or lists one twice"},
    {legacy(GOOD, "\x80\2].", ""), "storage '0' is not in the file"},
    {legacy(GOOD, nil, STORED:sub(1, 5)), "is cut off inside its storages"},
    {legacy(GOOD, nil, STORED:sub(1, -2)),
        "is cut off: storage '0' of 3 elements of f32 does not fit the 11 bytes left"},
    {legacy(GOOD, nil, string.pack("<i8", 2) .. FLOATS), "storage '0' has 2 elements, its tensors say 3"},
    {legacy(made {count = "\x8a\8" .. ("\xff"):rep(7) .. "\x7f"}, nil, string.pack("<i8", math.maxinteger)),
        "is cut off: storage '0' of 9223372036854775807 elements of f32 does not fit the 0 bytes left"},
    {legacy(made {shape = "J\0\0\0\x7f\x85", strides = "K\0\x85"}),
        "its tensors would take far more than the 152 bytes of the file"},
}
for _, case in ipairs(pickles) do
    local pickle, message, byte = table.unpack(case)
    local keys, stored = case.empty and "\x80\2]." or KEYS, case.empty and "" or STORED
    if case.other then stored = string.pack("<i8", 3) .. ("\0"):rep(24) end
    table.insert(malformed.pth_legacy, {legacy(pickle, keys, stored), message:format(byte and byte + START)})
end

-- ---------------------------------------------------------------- forms of checkpoints

local checkpoints = {
    -- objects, a set, a complex tensor and a class beside the state dict, and averaged weights
    "\x80\2}(" .. key "model" .. "}" .. key "a" .. vector() .. "s" .. key "model_ema" .. "}" .. key "a"
        .. vector() .. "s" .. key "args" .. "cargparse\nNamespace\n)\x81}" .. key "x" .. "K\1sb" .. key "s"
        .. "c__builtin__\nset\n]K\1a\x85R" .. key "k" .. "cm\nK\nu.",
    -- prefixes and a normalisation
    "\x80\2}(" .. key "module.1.a" .. vector() .. key "module.0.mean" .. vector() .. "u.",
    -- a list of dictionaries; a dictionary of another class, two keys deep; a default one
    "\x80\2](K\3}" .. key "n" .. "cm\nDict\n)R" .. key "a" .. vector() .. "s}bs"
        .. "ccollections\ndefaultdict\nc__builtin__\nint\n\x85R" .. key "a" .. vector() .. "se.",
    -- parameters of two kinds, and a tensor of a subclass
    "\x80\2}(" .. key "a" .. "ctorch._utils\n_rebuild_parameter_with_state\n(" .. vector() .. "\x88}}tR"
        .. key "b" .. "ctorch._tensor\n_rebuild_from_type_v2\n(ctorch._utils\n_rebuild_tensor_v2\ncm\nT\n("
        .. storage() .. "K\0K\3\x85K\1\x85\x89}t}tRu.",
    -- objects as Python 2 wrote them, one with named arguments, bytes
    "\x80\2}(" .. key "a" .. vector() .. key "o" .. "(cm\nK\nK\1o}b" .. key "i" .. "(K\1im\nK\n" .. key "e"
        .. "cm\nK\n)}\x92" .. key "b" .. "C\3abc" .. key "l" .. "\x96" .. ("\0"):rep(8) .. "u.",
}
malformed.pth_zip.more, malformed.pth_legacy.more = {}, {}
for i, pickle in ipairs(checkpoints) do
    malformed.pth_zip.more[i] = zip({"x/data.pkl", pickle}, VALUES)
    malformed.pth_legacy.more[i] = legacy(pickle)
end

return setmetatable(malformed, {__index = parts})
