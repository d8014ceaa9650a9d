-- Checkpoints as people have them: which of several state dicts is taken, what stands before its names,
-- what lies beside it, weights in several files, and files that are no weights at all.

local lfs = require "lfs"
local malformed = require "malformed"
local net = require "advrt.net"
local support = require "support"
local tensor = require "advrt.tensor"
local weights = require "advrt.nets.weights"

local key, zip = malformed.key, malformed.zip

-- fc.weight [2,3] and fc.bias [2] in storage '0', 1 .. 8, or in '1', ten times that.
local function storage_of(values) return string.pack(("<" .. ("f"):rep(#values)), table.unpack(values)) end
local RAW, AVERAGED = {1, 2, 3, 4, 5, 6, 7, 8}, {10, 20, 30, 40, 50, 60, 70, 80}

local function view(place, offset, shape, strides)
    return malformed.vector {key = key(tostring(place)), count = "K\8", offset = "K" .. string.char(offset),
        shape = shape, strides = strides}
end

local function dictionary(pairs)
    local parts = {"}("}
    for i, part in ipairs(pairs) do parts[i + 1] = part end
    return table.concat(parts) .. "u"
end

--- A state dict from a storage; more: keys and values behind it.
local function state(place, prefix, more)
    prefix = prefix or ""
    return dictionary {key(prefix .. "fc.weight"), view(place, 0, "K\2K\3\x86", "K\3K\1\x86"),
        key(prefix .. "fc.bias"), view(place, 6, "K\2\x85", "K\1\x85"), table.unpack(more or {})}
end

local SCALAR = malformed.vector {key = key "0", count = "K\8", shape = ")", strides = ")"}

local function definition(more)
    local d = {name = "small", classes = 2, input = {1, 1, 3}, preprocess = {},
        build = function(b, x) return b:linear(x, "fc", 2) end}
    for name, value in pairs(more or {}) do d[name] = value end
    return d
end

describe("a checkpoint", function()
    local dir, said
    local stderr = io.stderr
    before_each(function()
        dir, said = support.folder(), {}
        rawset(io, "stderr", {write = function(_, ...) said[#said + 1] = table.concat {...} end})
    end)
    after_each(function()
        rawset(io, "stderr", stderr)
        support.remove(dir)
    end)

    local function file(root, name)
        return support.write(dir .. "/" .. (name or "x.pth"), zip({"x/data.pkl", "\x80\2" .. root .. "."},
            {"x/data/0", storage_of(RAW)}, {"x/data/1", storage_of(AVERAGED)}))
    end

    --- Loads a net from a file: its bias, 7 of the raw and 70 of the averaged weights; what was said.
    local function load(path, opts, d)
        local given = {weights = path}
        for name, value in pairs(opts or {}) do given[name] = value end
        local g, message = net.build(definition(d), given, "small.lua")
        if not g then return nil, message end
        local text = table.concat(said):gsub(dir:gsub("%p", "%%%0") .. "/", "")
        said = {}
        return g:state()["fc.bias"]:get(1), text, g
    end

    it("gives its one state dict under any name, past what is no tensor", function()
        for _, root in ipairs {state(0), dictionary {key "net", state(0), key "acc", SCALAR},
            dictionary {key "epoch", "K\3", key "anything", state(0)},
            dictionary {key "checkpoint", dictionary {key "weights", state(0)}},
            "K\3" .. state(0) .. "\x86", "]" .. state(0) .. "a",
            dictionary {key "args", "cargparse\nNamespace\n)\x81}b", key "model", state(0),
                key "optimizer",
                dictionary {key "state", dictionary {"K\0", dictionary {key "step", SCALAR}}}},
            dictionary {key "model", state(0, nil, {key "n", "cnumpy\nfloat64\nK\1\x85R"})}} do
            local bias, text = load(file(root))
            assert.equal(7, bias)
            assert.equal("", text)
        end
    end)

    it("with several that fit gives the raw one, and says so with the others", function()
        local path = file(dictionary {key "model_ema", state(1), key "model", state(0)})
        local bias, text, g = load(path)
        assert.equal(7, bias)
        assert.equal("advrt: x.pth: used 'model'; the file also has 'model_ema'. Choose with "
            .. "--weights-key\n", text)
        assert.equal("model", g.weights_key)
        bias, text, g = load(path, {weights_key = "model_ema"})
        assert.equal(70, bias)
        assert.equal("", text)
        assert.equal("model_ema", g.weights_key)
        -- Names nobody knows: the order of the file; the averaged ones behind.
        bias, text = load(file(dictionary {key "swa.x", state(1), key "b", state(0), key "a", state(1)}))
        assert.equal(7, bias)
        assert.equal("advrt: x.pth: used 'b'; the file also has 'a', 'swa.x'. Choose with "
            .. "--weights-key\n", text)
        -- At the top and under a key.
        bias, text = load(file(state(0, nil, {key "ema", state(1)})))
        assert.equal(7, bias)
        assert.equal("advrt: x.pth: used the top level; the file also has 'ema'. Choose with "
            .. "--weights-key\n", text)
    end)

    it("with several of which one fits gives that one", function()
        local half = dictionary {key "fc.bias", view(1, 6, "K\2\x85", "K\1\x85")}
        local bias, text = load(file(dictionary {key "state_dict", half, key "ema", state(0)}))
        assert.equal(7, bias)
        assert.equal("advrt: x.pth: used 'ema'; the file also has 'state_dict'. Choose with "
            .. "--weights-key\n", text)
    end)

    it("has no other weights than its own", function()
        local path = file(dictionary {key "model", state(0), key "model_ema", state(1)})
        local bias, message = load(path, {weights_key = "model_em"})
        assert.is_nil(bias)
        assert.equal(path .. ": has no weights 'model_em', but model, model_ema; did you mean 'model_ema'?",
            message)
        local other = dir .. "/x.safetensors"
        assert(tensor.save(other, {["fc.weight"] = tensor.new {2, 3}, ["fc.bias"] = tensor.new {2}}))
        assert.equal(other .. ": has no weights 'ema'", select(2, load(other, {weights_key = "ema"})))
        assert.is_nil(tensor.load(path, {key = "ema"}))
        assert.equal(70, tensor.load(path, {key = "model_ema"})["fc.bias"]:get(1))
        assert.same({}, said)
        assert.equal(7, tensor.load(path)["fc.bias"]:get(1))
        assert.same({("advrt: %s: used 'model'; the file also has 'model_ema'. Choose with the option "
            .. "'key'\n")
            :format(path)}, said)
        assert.equal(1, select("#", tensor.load(path))) -- so that tensor.save(to, assert(tensor.load(path)))
    end)

    it("may have any prefix before its names, which is said", function()
        for _, prefix in ipairs {"module.", "_orig_mod.module.", "module.model.", "1.", "a.b.c.d."} do
            local bias, text = load(file(dictionary {key "net", state(0, prefix)}))
            assert.equal(7, bias)
            assert.equal(("advrt: x.pth: removed '%s' from every name\n"):format(prefix), text)
        end
        assert.is_nil(load(file(state(0, "a.b.c.d.e.f.g.h.i."))))
        assert.is_nil(load(file(state(0, "no_dot"))))
    end)

    it("may have two nets in one dictionary, of which a prefix names one", function()
        local both = dictionary {key "q.fc.weight", view(0, 0, "K\2K\3\x86", "K\3K\1\x86"), key "q.fc.bias",
            view(0, 6, "K\2\x85", "K\1\x85"), key "teacher.fc.weight", view(1, 0, "K\2K\3\x86", "K\3K\1\x86"),
            key "teacher.fc.bias", view(1, 6, "K\2\x85", "K\1\x85")}
        local path = file(dictionary {key "state_dict", both})
        local bias, text, g = load(path)
        assert.equal(7, bias)
        assert.equal("advrt: x.pth: used 'state_dict.q'; the file also has 'state_dict.teacher'. Choose "
            .. "with --weights-key\nadvrt: x.pth: removed 'q.' from every name\n", text)
        assert.equal("state_dict.q", g.weights_key)
        for _, name in ipairs {"teacher", "state_dict.teacher"} do
            bias, text = load(path, {weights_key = name})
            assert.equal(70, bias)
            assert.equal("advrt: x.pth: removed 'teacher.' from every name\n", text)
        end
    end)

    it("may have counters and a normalisation, which are passed over and compared", function()
        local path = dir .. "/n.safetensors"
        local function save(more)
            local all = {["1.fc.weight"] = tensor.new {2, 3}, ["1.fc.bias"] = tensor.from {7, 8}}
            for name, t in pairs(more) do all[name] = t end
            assert(tensor.save(path, all))
        end
        local off = "advrt: n.safetensors: removed '1.' from every name\n"
        save {["0.mean"] = tensor.from({0.5}, "f32", {1, 1, 1}), ["0.std"] = tensor.from {0.25}}
        assert.equal(off .. "advrt: n.safetensors: passed over 0.mean, 0.std\n",
            select(2, load(path, nil, {mean = {0.5}, std = {0.25}})))
        local other = " (--mean and --std set others)\n"
        assert.equal(off .. "advrt: n.safetensors: passed over 0.mean, 0.std; its mean is 0.5, the "
            .. "definition's 0.4; its std is 0.25, the definition's 0.3" .. other,
            select(2, load(path, nil, {mean = {0.4}, std = {0.3}})))
        assert.equal(off .. "advrt: n.safetensors: passed over 0.mean, 0.std; its mean is 0.5, the "
            .. "definition's is missing; its std is 0.25, the definition's is missing" .. other,
            select(2, load(path)))
        save {["normalizer.new_mean"] = tensor.from {0}, ["normalizer.new_std"] = tensor.from {1},
            n_averaged = tensor.from({3}, "i64"), ["1.bn.num_batches_tracked"] = tensor.from({3}, "i64")}
        assert.equal(off .. "advrt: n.safetensors: passed over n_averaged, normalizer.new_mean, "
            .. "normalizer.new_std\n", select(2, load(path)))
        -- A mean of other channels, and a number that may be a parameter.
        save {["0.mean"] = tensor.new {3}}
        assert.matches("1 unexpected: 0.mean", select(2, load(path)))
        save {["1.scale"] = tensor.new {1}}
        assert.matches("1 unexpected: scale$", select(2, load(path)))
        -- What belongs to another module can be left aside, where that is asked for.
        save {["criterion.weight"] = tensor.new {2}}
        assert.matches("1 unexpected: criterion.weight; %-%-weights%-key 1 selects the weights of the "
            .. "net alone$",
            select(2, load(path)))
        assert.equal(off, select(2, load(path, {weights_key = "1"})))
    end)

    it("may have tables of whole numbers, as relative_position_index, which are passed over", function()
        local path = dir .. "/i.safetensors"
        local function save(name, t)
            assert(tensor.save(path, {["fc.weight"] = tensor.new {2, 3}, ["fc.bias"] = tensor.from {7, 8},
                [name] = t}))
        end
        for _, kind in ipairs {"i64", "i32", "u8"} do
            save("attn.relative_position_index", tensor.from({0, 1, 2, 3}, kind, {2, 2}))
            local bias, text = load(path)
            assert.equal(7, bias)
            assert.equal("advrt: i.safetensors: passed over attn.relative_position_index\n", text)
        end
        -- Real numbers may be weights, and a parameter of that name is wanted.
        save("attn.relative_position_bias_table", tensor.new {2, 2})
        assert.matches("1 unexpected: attn.relative_position_bias_table", select(2, load(path)))
        assert(tensor.save(path, {["fc.weight"] = tensor.new {2, 3},
            ["fc.bais"] = tensor.from({7, 8}, "i64")}))
        assert.matches("1 missing: fc.bias", select(2, load(path)))
    end)

    it("that does not fit is told in a few names, with the likely one and the other keys", function()
        local path = file(dictionary {key "model", dictionary {key "head.weight",
            view(0, 0, "K\2K\3\x86", "K\3K\1\x86"), key "head.bias", view(0, 6, "K\2\x85", "K\1\x85")},
            key "other", dictionary {key "x", SCALAR}})
        assert.equal(("weights %s ('model') do not fit net small: 2 missing: fc.bias, fc.weight; 2 "
            .. "unexpected: head.bias, head.weight; 'fc.weight' may be 'head.weight' in the file; use "
            .. "the file's names in the definition; the file also has 'other'; choose with --weights-key")
            :format(path), select(2, load(path)))
        path = file(dictionary {key "fc.bias", view(0, 6, "K\2\x85", "K\1\x85"), key "fc.weight",
            "ctorch._utils\n_rebuild_sparse_tensor\n)R"})
        assert.equal(("weights %s do not fit net small: 1 missing: fc.weight; 'fc.weight' needs the function "
            .. "'torch._utils._rebuild_sparse_tensor', which advrt never runs; in PyTorch, save the weights "
            .. "by torch.save({\"state_dict\": model.state_dict()}, FILE)"):format(path),
            select(2, load(path)))
    end)
end)

describe("weights in several files", function()
    local dir, index
    before_each(function()
        dir = support.folder()
        index = dir .. "/model.safetensors.index.json"
        assert(tensor.save(dir .. "/1.safetensors", {["fc.weight"] = tensor.new {2, 3}}))
        assert(tensor.save(dir .. "/2.safetensors", {["fc.bias"] = tensor.from {7, 8}}))
    end)
    after_each(function() support.remove(dir) end)

    local function write(map, rest)
        support.write(index, ('{"metadata": {"total_size": 32}%s, "weight_map": {%s}}\n'):format(rest or "",
            map))
    end

    it("are read by their index", function()
        write '"fc.weight": "1.safetensors", "fc.bias": "2.safetensors"'
        local g = assert(net.build(definition(), {weights = index}))
        assert.equal(7, g:state()["fc.bias"]:get(1))
        local before = weights.sha256(index)
        assert(tensor.save(dir .. "/2.safetensors", {["fc.bias"] = tensor.from {7, 9}}))
        assert.are_not.equal(before, weights.sha256(index))
    end)

    it("are files of the index's own folder, which hold what it says and no more", function()
        local function refused(map, message, rest)
            write(map, rest)
            local got, said = tensor.load(index)
            assert.is_nil(got)
            assert.equal(message, (said:gsub(dir:gsub("%p", "%%%0") .. "/", "")))
        end
        local name = "model.safetensors.index.json: "
        for _, place in ipairs {"../1.safetensors", "/etc/passwd", "a/1.safetensors", "..", "."} do
            refused(('"fc.weight": "%s"'):format(place),
                name .. ("names the file '%s', which is not in its own folder"):format(place))
        end
        refused('"fc.weight": ""', name .. "names the file '', which is not in its own folder")
        refused('"fc.weight": 1', name .. "names no file for the tensor 'fc.weight'")
        refused('"a": "1.safetensors", "a": "2.safetensors"', name .. "names the tensor 'a' twice")
        refused("", name .. "is JSON, but not an index of weights: it has no tensors in a 'weight_map'")
        refused('"a": "b"', name .. "has 'weight_map' twice", ', "weight_map": {"a": "b"}')
        refused('"a": "b"', name .. "it is not valid JSON (byte 40: invalid number near 'x')", ', "n": -x')
        refused('"a": "absent.safetensors"', "absent.safetensors: No such file or directory")
        refused('"fc.bias": "1.safetensors"',
            "1.safetensors: has no tensor 'fc.bias', which its index says is in it")
        refused('"fc.weight": "1.safetensors", "fc.bias": "1.safetensors"',
            "1.safetensors: has no tensor 'fc.bias', which its index says is in it")
        assert(tensor.save(dir .. "/1.safetensors", {["fc.weight"] = tensor.new {2}, x = tensor.new {2}}))
        refused('"fc.weight": "1.safetensors"',
            "1.safetensors: has a tensor 'x', which its index does not name")
        refused('"fc.weight": "model.safetensors.index.json"',
            name .. "is JSON, but wanted is a file of weights")
        write '"fc.bias": "2.safetensors"'
        assert.equal(index .. ": has no weights 'ema'", select(2, net.build(definition(),
            {weights = index, weights_key = "ema"})))
    end)
end)

describe("a file that is no weights", function()
    local dir
    before_each(function() dir = support.folder() end)
    after_each(function() support.remove(dir) end)

    local function refused(name, bytes, message)
        local path = support.write(dir .. "/" .. name, bytes)
        local got, said = tensor.load(path)
        assert.is_nil(got)
        assert.equal(path .. ": " .. message, said)
    end

    it("is told by its kind, with the way to weights", function()
        local wanted = "; wanted is .safetensors, .pth or .msgpack"
        local images = " image, not weights; use --images for images"
        local save = 'in PyTorch, save the weights by torch.save({"state_dict": model.state_dict()}, FILE)'
        refused("net.lua", "-- a net\nreturn {}\n",
            "is a network definition, not weights; use --net for it")
        refused("w.pth", "<!DOCTYPE html>\n<title>404</title>",
            "is text, not weights: it starts with '<!DOCTYPE html>' (a failed download?)")
        refused("w.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
            "is a pointer of Git LFS, not the weights; `git lfs pull` in its repository gets them")
        refused("checkpoint", 'model_checkpoint_path: "m-1"\n',
            "is the list of a TensorFlow checkpoint, which is not supported" .. wanted)
        refused("config.json", '{"architectures": ["ResNet"]}\n',
            "is JSON, but not an index of weights: it has no tensors in a 'weight_map'")
        refused("m.onnx", "\8\8\18\7pytorch\26\0062.1.0:\0",
            "is an ONNX model; use --net for models")
        refused("m.h5", "\x89HDF\r\n\x1a\n\0\0", "is an HDF5 file (Keras), which is not supported" .. wanted)
        refused("a.png", "\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "is a PNG" .. images)
        refused("a.jpg", "\xff\xd8\xff\xe0\0\16JFIF", "is a JPEG" .. images)
        refused("w.npy", "\x93NUMPY\1\0", "is one array of NumPy's (.npy), which has no name" .. wanted)
        refused("w.pth.gz", "\x1f\x8b\8\0", "is compressed with gzip; unpack it with gunzip first")
        refused("m.gguf", "GGUF\3\0\0\0", "is a GGUF file, which is not supported" .. wanted)
        refused("m.keras", zip({"config.json", "{}"}, {"model.weights.h5", "\x89HDF"}),
            "is a Keras model, which is not supported" .. wanted)
        refused("w.npz", zip({"a.npy", "\x93NUMPY"}),
            "is a NumPy archive (.npz), which is not supported" .. wanted)
        refused("m.ts", zip({"m/data.pkl", "\x80\2}."}, {"m/constants.pkl", "\x80\2)."}),
            "is a TorchScript program, which is code; " .. save)
        refused("photos.zip", zip({"a/b.png", "x"}),
            "a zip archive without data.pkl, so not one that torch.save wrote")
    end)

    it("may be a folder, which has them", function()
        local function said() return (select(2, tensor.load(dir)):gsub(dir:gsub("%p", "%%%0"), "DIR")) end
        assert.equal("DIR: is a directory", said())
        support.write(dir .. "/checkpoint", "")
        assert.equal("DIR: is a TensorFlow directory, which is not supported; wanted is .safetensors, "
            .. ".pth or .msgpack", said())
        support.write(dir .. "/pytorch_model.bin", "")
        assert.equal("DIR: is a directory; its weights are in DIR/pytorch_model.bin", said())
        support.write(dir .. "/model.safetensors.index.json", "")
        assert.equal("DIR: is a directory; its weights are in DIR/model.safetensors.index.json", said())
        assert(lfs.mkdir(dir .. "/empty"))
        assert.equal(dir .. "/empty: is a directory", select(2, tensor.load(dir .. "/empty")))
    end)
end)
