--- Malformed files of arrays: for each format a good file, and changed ones with the message that refuses
-- each. tests/lua/arrays_spec.lua holds the readers to the messages; tests/fuzz/seeds.lua gives the files
-- to libFuzzer to begin with.

local zip = require("malformed").zip

local arrays = {}

-- ---------------------------------------------------------------- .npy

local VALUES = string.pack("<ffffff", 0, 0.25, 0.5, 0.75, 1, 0.125)

--- An .npy of this dictionary; options: major, length (what the file says of its header's).
local function npy(header, values, options)
    local o = options or {}
    local major = o.major or 1
    local length = o.length or #header
    return "\x93NUMPY" .. string.char(major, 0) .. string.pack(major == 1 and "<I2" or "<I4", length)
        .. header .. (values or VALUES)
end

local function dictionary(descr, fortran, shape)
    return ("{'descr': %s, 'fortran_order': %s, 'shape': %s, }"):format(descr or "'<f4'", fortran or "False",
        shape or "(2, 3)")
end

local function of(descr, fortran, shape, values) return npy(dictionary(descr, fortran, shape), values) end

local whole = of()
local broken = "its header is no dictionary of NumPy's (byte %d: %s expected)"
local entries = "descr, fortran_order and shape, each once,"
local dtypes = "has dtype '%s'; b1, i1 to i8, u1 to u8, f2, f4 and f8 are read"
local numbers = "; arrays of numbers are read"

arrays.npy = {good = whole,
    more = {
        npy(dictionary() .. (" "):rep(57) .. "\n"), npy(dictionary(), VALUES, {major = 2}),
        npy(dictionary(), VALUES, {major = 3}), npy("{\"shape\":(2L,3L),'fortran_order':True,'descr':'>f4'}"),
        of("'<f8'", nil, "(3,)"), of("'<f2'", "True", "(2, 2, 3,)"), of("'|u1'", nil, "(24,)"),
        of("'<u2'", nil, "(3, 4)"), of("'>u4'", "True", "(3, 2)"), of("'<i8'", nil, "(3,)"),
        of("'|b1'", nil, "(24, 1)"), of("'=f4'", nil, "()", "\0\0\0\0"), of("'<f4'", nil, "(0, 3)", ""),
        of("'|i1'", nil, "(1, 1, 1, 1, 1, 1, 2, 12)"),
    },
    {"", "is empty"},
    {"\x93NUMPY\1", "is no array of NumPy's (.npy): it is too short"},
    {"\x93NUMPY\1\0\5", "is truncated in its header"},
    {npy(dictionary(), VALUES, {major = 0}), "has version 0 of the .npy format; 1, 2 and 3 are read"},
    {npy(dictionary(), VALUES, {major = 4}), "has version 4 of the .npy format; 1, 2 and 3 are read"},
    {npy(dictionary(), VALUES, {length = 90}), "is truncated: its header promises 90 bytes, 83 are left"},
    {npy(dictionary(), VALUES, {major = 2, length = 0xffffffff}),
        "is truncated: its header promises 4294967295 bytes, 83 are left"},
    {npy(dictionary() .. (" "):rep(70000), VALUES, {major = 2}),
        "has a header of 70059 bytes, at most 65536 are read"},
    {npy(dictionary(), VALUES, {length = 0}), broken:format(0, "{")},
    {npy("()"), broken:format(0, "{")},
    {npy("{"), broken:format(1, "a text in quotes")},
    {npy("{}"), "its header has no 'descr'"},
    {npy("{'descr': '<f4', 'shape': (2, 3)}"), "its header has no 'fortran_order'"},
    {npy("{'descr': '<f4', 'fortran_order': False}"), "its header has no 'shape'"},
    {npy("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}"),
        broken:format(17, entries)},
    {npy("{'descr': '<f4', 'extra': 1, 'fortran_order': False, 'shape': (2, 3)}"),
        broken:format(17, entries)},
    {npy("{'descr' '<f4'}"), broken:format(9, "a colon")},
    {npy("{'descr': '<f4' 'shape': (2, 3)}"), broken:format(16, "a comma or }")},
    {npy(dictionary() .. "x"), broken:format(59, "the end of the header")},
    {npy(dictionary() .. "\0"), broken:format(59, "the end of the header")},
    {npy("{__import__('os').system('ls'): 1}"), broken:format(1, "a text in quotes")},
    {of("__import__('os')"), broken:format(10, "a text in quotes")},
    {npy("{'descr': '<f4"), broken:format(14, "the end of a text")},
    {of("'<f4"), dtypes:format("<f4, ")},
    {of("'\\x3cf4'"), broken:format(11, "a plain character")},
    {of(nil, "0"), broken:format(34, "True or False")},
    {of(nil, "Tru"), broken:format(34, "True or False")},
    {of(nil, nil, "[2, 3]"), broken:format(50, "a tuple of sizes")},
    {of(nil, nil, "(6)"), broken:format(52, "a comma")},
    {of(nil, nil, "(2 3)"), broken:format(53, "a comma or )")},
    {of(nil, nil, "(2, -3)"), broken:format(54, "a size")},
    {of(nil, nil, "(2, 3.0)"), broken:format(55, "a comma or )")},
    {of(nil, nil, "(2, 3"), broken:format(57, "a size")},
    {of(nil, nil, "(2, 99999999999999999999)"), "has a size in its shape that no array can have"},
    {of(nil, nil, "(4611686018427387904, 4)"),
        "has a shape [4611686018427387904,4] of more bytes than can be counted"},
    {of(nil, nil, "(1, 1, 1, 1, 1, 1, 1, 2, 3)"),
        "has more than 8 dimensions, at most that many are supported"},
    {of("'|O'"), "holds Python objects (dtype '|O')" .. numbers},
    {of("'<c8'"), "holds complex numbers (dtype '<c8')" .. numbers},
    {of("'<U5'"), "holds texts (dtype '<U5')" .. numbers},
    {of("'|S24'"), "holds texts (dtype '|S24')" .. numbers},
    {of("'<M8[ns]'"), "holds dates (dtype '<M8[ns]')" .. numbers},
    {of("'|V24'"), "holds records (dtype '|V24')" .. numbers},
    {of("[('a', '<f4')]"), "holds records of several fields" .. numbers},
    {of("'<f16'"), dtypes:format("<f16")},
    {of("'<f1'"), dtypes:format("<f1")},
    {of("'<i3'"), dtypes:format("<i3")},
    {of("'f'"), dtypes:format("f")},
    {of("''"), dtypes:format("")},
    {of("'<'"), dtypes:format("<")},
    {whole:sub(1, -2), "is truncated: f4 [2,3] takes 24 bytes, but has 23"},
    {whole .. "x", "has bytes behind its values: f4 [2,3] takes 24 bytes, but has 25"},
    {of(nil, nil, "(200000, 300000)"),
        "is truncated: f4 [200000,300000] takes 240000000000 bytes, but has 24"},
    {of(nil, nil, "(0, 3)"), "has bytes behind its values: f4 [0,3] takes 0 bytes, but has 24"},
    {of("'<u8'", nil, "(1, 3)", ("\xff"):rep(24)),
        "holds 18446744073709551615, which is too large for 64 bits with a sign"},
    {"GIF89a" .. VALUES, "is not a file of arrays: its contents are neither .npy, .npz nor .safetensors"},
    {"\x93NUMPX" .. VALUES, "is not a file of arrays: its contents are neither .npy, .npz nor .safetensors"},
}

-- ---------------------------------------------------------------- .npz

local X = {"x.npy", whole}
local Y = {"y.npy", of("'<i8'", nil, "(2,)", string.pack("<i8i8", 1, 0))}
local both = zip(X, Y)

--- An entry with other fields of its header.
local function with(entry, fields)
    for i, v in ipairs(entry) do fields[i] = v end
    return fields
end

-- Deflate's stream of one block, which is stored as it is.
local function deflated(bytes)
    return string.pack("<BI2I2", 1, #bytes, ~#bytes & 0xffff) .. bytes
end

local packed = {"x.npy", deflated(whole), method = 8, plain = whole}
local other = "encrypted, or packed otherwise than by deflate; numpy.savez and numpy.savez_compressed write "
    .. "what is read"

arrays.npz = {good = both, more = {zip(packed, Y), zip(Y, X, {"z.npy", ""}, {"readme.txt", "hello"})},
    {zip(), "holds no array 'x', nor any other"},
    {zip({"readme.txt", "hello"}), "holds no array 'x', nor any other"},
    {zip(X), "holds no array 'y', but 'x'"},
    {zip({"x_train.npy", whole}, {"y_train.npy", whole}), "holds no array 'x', but 'x_train', 'y_train'"},
    {zip({"a.npy", ""}, {"b.npy", ""}, {"c.npy", ""}, {"d.npy", ""}, {"e.npy", ""}, {"f.npy", ""}),
        "holds no array 'x', but 'a', 'b', 'c', 'd', 'e' and others"},
    {zip({"X.npy", whole}, Y), "holds no array 'x', but 'X', 'y'"},
    {zip({"f\27[31m.npy", whole}, Y), "holds no array 'x', but 'f←[31m', 'y'"},
    {zip({"a/x.npy", whole}, Y), "holds no array 'x', but 'a/x', 'y'"},
    {both:sub(1, -2), "a zip archive without its end: the file is cut off or damaged"},
    {both:sub(1, 60), "a zip archive without its end: the file is cut off or damaged"},
    {zip(X, X, Y), "its zip archive has two entries of one name"},
    {zip(with(X, {crc = 7}), Y), "array 'x': 'x.npy' in the archive is damaged (CRC error)"},
    {zip(X, with(Y, {crc = 7})), "array 'y': 'y.npy' in the archive is damaged (CRC error)"},
    {zip(with(X, {method = 12}), Y), "'x.npy' in the archive is " .. other},
    {zip(with(X, {flags = 1}), Y), "'x.npy' in the archive is " .. other},
    {zip({"x.npy", "\xff\xff\xff\xff", method = 8, unpacked = 140}, Y),
        "array 'x': 'x.npy' in the archive is damaged (Zlib error: data error)"},
    {zip({"x.npy", deflated(whole), method = 8, unpacked = 1 << 28}, Y), "'x.npy' in the archive promises "
        .. "268435456 bytes, more than deflate can pack into its " .. #deflated(whole)},
    {zip({"x.npy", deflated(whole), method = 8, plain = whole, unpacked = #whole + 8}, Y),
        "array 'x': has bytes behind its values: f4 [2,3] takes 24 bytes, but has 32"},
    {zip({"x.npy", deflated(whole), method = 8, plain = whole, unpacked = #whole - 8}, Y),
        "array 'x': is truncated: f4 [2,3] takes 24 bytes, but has 16"},
    {zip({"x.npy", deflated(whole:sub(1, -9)), method = 8, plain = whole:sub(1, -9), unpacked = #whole}, Y),
        "array 'x': 'x.npy' in the archive is cut off"},
    {zip({"x.npy", ""}, Y), "array 'x': is no array of NumPy's (.npy): it is too short"},
    {zip({"x.npy", "GIF89a" .. VALUES}, Y),
        "array 'x': is no array of NumPy's (.npy): it does not begin with \\x93NUMPY"},
    {zip({"x.npy", of("'|O'")}, Y), "array 'x': holds Python objects (dtype '|O')" .. numbers},
    {zip(X, {"y.npy", of(nil, nil, "(200000, 300000)")}),
        "array 'y': is truncated: f4 [200000,300000] takes 240000000000 bytes, but has 24"},
}

-- ---------------------------------------------------------------- CIFAR's batches

local function record(labels) return string.char(table.unpack(labels)) .. ("\1\2\3"):rep(1024) end

local sizes = "has %d bytes, no whole records of CIFAR-10 (3073 bytes each) or CIFAR-100 (3074)"

arrays.cifar = {good = record {3} .. record {0}, more = {record {19, 99}, record {9}},
    {"", sizes:format(0)},
    {"\0", sizes:format(1)},
    {record {3} .. record {0}:sub(1, -2), sizes:format(6145)},
    {record {3} .. record {0} .. "x", sizes:format(6147)},
    {record {3} .. record {0, 0}, sizes:format(6147)},
    {record {3} .. record {10}, "record 1: label 10 is not a class of CIFAR-10 (0 .. 9)"},
    {record {255}, "record 0: label 255 is not a class of CIFAR-10 (0 .. 9)"},
    {record {20, 0}, "record 0: label 20 is not a class of CIFAR-100 (0 .. 19)"},
    {record {19, 100}, "record 0: label 100 is not a class of CIFAR-100 (0 .. 99)"},
    {record {0, 99} .. record {0, 100}, "record 1: label 100 is not a class of CIFAR-100 (0 .. 99)"},
}

return arrays
