-- Weight files and records as scripts see them.

local json = require "dkjson"
local record = require "advrt.record"
local core = require "advrt.core.record"
local support = require "support"
local tensor = require "advrt.tensor"

local golden = "tests/golden/weights/"

local read = support.read

-- The tensors of state.json and no others.
local function check(tensors)
    local count = 0
    for name, wanted in pairs(json.decode(read(golden .. "state.json"))) do
        local t = assert(tensors[name], name)
        assert.same(wanted.shape, t:shape(), name)
        local values = t:numel() == 0 and {} or t:to("f64"):reshape({t:numel()}):totable()
        assert.same(wanted.values, values, name)
        count = count + 1
    end
    for _ in pairs(tensors) do count = count - 1 end
    assert.equal(0, count)
end

describe("weight files", function()
    local dir
    before_each(function() dir = support.folder() end)
    after_each(function() support.remove(dir) end)

    describe("whose values come piece by piece", function()
        local stream = (require "advrt.core.weights").stream
        local x, n = tensor.uniform("streamed", {2, 3}), tensor.from({5, -6}, "i64")
        local entries = {{"n", "i64", {2}}, {"none", "f32", {0, 4}}, {"x", "f32", {2, 3}}}

        it("are those that hold the same tensors", function()
            assert(tensor.save(dir .. "/whole.safetensors", {x = x, n = n, none = tensor.new {0, 4}},
                {when = "last"}))
            local file <close> = assert(stream(dir .. "/pieces.safetensors", entries, {when = "last"}))
            assert(file:put(n:bytes()))
            for byte in x:bytes():gmatch "." do assert(file:put(byte)) end
            assert.is_false(support.exists(dir .. "/pieces.safetensors"))
            assert.is_true(file:finish())
            assert.equal(read(dir .. "/whole.safetensors"), read(dir .. "/pieces.safetensors"))
            assert.error_matches(function() file:put "x" end, "the file is finished")
        end)

        it("are refused, and absent, where bytes are missing or too many, or nobody finishes them", function()
            local path = dir .. "/pieces.safetensors"
            local file = assert(stream(path, entries))
            file:put(n:bytes())
            assert.same({nil, path .. ": 24 bytes of its tensors are missing"}, {file:finish()})
            file = assert(stream(path, entries))
            assert.same({nil, path .. ": is given 1 bytes more than its tensors have"},
                {file:put(("x"):rep(41))})
            do
                local left <close> = assert(stream(path, entries)) -- luacheck: ignore left
                local also <close> = file -- luacheck: ignore also
            end
            assert.same({}, support.list(dir))
            file = assert(stream(dir .. "/whole.safetensors", {}))
            assert.is_true(file:finish())
            assert.same({}, tensor.load(dir .. "/whole.safetensors"))
        end)

        it("are refused where the tensors cannot be in a file", function()
            local path = dir .. "/pieces.safetensors"
            for problem, bad in pairs {
                ["'n' has larger elements than 'x' before it"] = {{"x", "f32", {1}}, {"n", "i64", {1}}},
                ["reserves the name '__metadata__'"] = {{"__metadata__", "f32", {1}}},
                ["a name is not UTF-8, or there twice"] = {{"x", "f32", {1}}, {"x", "f32", {2}}},
                ["'x': "] = {{"x", "f32", {1 << 40, 1 << 40}}},
            } do
                local none, message = stream(path, bad)
                assert.is_nil(none)
                assert.truthy(message:find(path .. ": ", 1, true) and message:find(problem, 1, true), message)
            end
            assert.error_matches(function() stream(path, {{"x", "f33", {1}}}) end, "entry 1 must be {name")
            assert.error_matches(function() stream(path, {{"x", "f32"}}) end, "table expected, got nil")
            assert.same({}, support.list(dir))
        end)
    end)

    it("give the tensors that are in them, whatever their format", function()
        for _, name in ipairs {"state.safetensors", "state.pth", "state_legacy.pth", "checkpoint.pth"} do
            local tensors = assert(tensor.load(golden .. name))
            assert.equal("f16", tensors.half:dtype())
            check(tensors)
        end
    end)

    it("come back from what tensor.save wrote, with the same bytes each time", function()
        local tensors = assert(tensor.load(golden .. "state.pth"))
        for _, suffix in ipairs {".safetensors", ".msgpack"} do
            local one, two = dir .. "/one" .. suffix, dir .. "/two" .. suffix
            assert.is_true(tensor.save(one, tensors, {made = "by a test", again = "yes"}))
            assert.is_true(tensor.save(two, tensors, {again = "yes", made = "by a test"}))
            check(assert(tensor.load(one)))
            assert.equal(read(one), read(two))
        end
    end)

    it("are refused with one line, and nothing in them is run", function()
        local tensors, message = tensor.load(golden .. "bad_executes.pth")
        assert.is_nil(tensors)
        assert.equal(golden .. "bad_executes.pth: refuses to run 'posix.system' "
            .. "(only tensors are read from a .pth file)", message)
        assert.is_false(support.exists("pwned.txt"))
        for _, name in ipairs {"bad_empty.pth", "bad_header.safetensors", "bad_json.safetensors",
            "bad_no_pickle.pth", "bad_offsets.safetensors", "bad_overflow.safetensors",
            "bad_overlap.safetensors", "bad_shape.safetensors", "bad_text.pth",
            "bad_truncated.pth"} do
            tensors, message = tensor.load(golden .. name)
            assert.is_nil(tensors)
            assert.equal(1, (message:find(golden .. name .. ": ", 1, true)))
            assert.is_nil(message:find("\n", 1, true))
        end
    end)

    it("are written from a table of named tensors and nothing else", function()
        local x = tensor.new {2}
        assert.error_matches(function() tensor.save(dir .. "/x.safetensors", {x = 1}) end,
            "'x' must be a tensor, got a number")
        assert.error_matches(function() tensor.save(dir .. "/x.safetensors", {x}) end,
            "names must be strings, got a number")
        assert.error_matches(function() tensor.save(dir .. "/x.safetensors", {x = x}, {y = 2}) end,
            "'y' must be a string")
        local ok, message = tensor.save(dir .. "/x.pth", {x = x})
        assert.is_nil(ok)
        assert.equal(dir .. "/x.pth: the name of a weight file must end in .safetensors or "
            .. ".msgpack", message)
    end)
end)

describe("records", function()
    local dir, path
    before_each(function()
        dir = support.folder()
        path = dir .. "/records.part"
    end)
    after_each(function() support.remove(dir) end)

    local function pack(i)
        return core.pack {{"file", "a.png"}, {"number", i}, {"half", 0.5}, {"flag", false},
            {"series", tensor.from({0.5, 1.5, 2.5}, "f32")}, {"counts", {1, 2, 300}},
            {"mixed", {1, 0.5}}, {"none", {}}, {"bytes", tensor.from({1, 2, 3}, "u8")}}
    end

    local function check_records(file, n)
        local i = 0
        for r in record.each(file) do
            i = i + 1
            assert.same({file = "a.png", number = i, half = 0.5, flag = false,
                series = {0.5, 1.5, 2.5}, counts = {1, 2, 300}, mixed = {1.0, 0.5}, none = {},
                bytes = {1, 2, 3}}, r)
            assert.equal("integer", math.type(r.counts[1]))
            assert.equal("float", math.type(r.series[1]))
        end
        assert.equal(n, i)
    end

    it("survive in a part file until the finished file replaces it", function()
        local part = assert(record.part(path))
        assert.is_true(part:append(pack(1)))
        part:close()
        local file = assert(io.open(path, "ab"))
        file:write("advp torn")
        file:close()
        check_records(path, 1)
        local bytes, frames = record.recover(path)
        assert.equal(#pack(1), bytes)
        assert.equal(1, frames)
        part = assert(record.part(path, "append"))
        assert.is_true(part:append(pack(2) .. pack(3)))
        assert.is_true(part:finish(dir .. "/records.msgpack"))
        check_records(dir .. "/records.msgpack", 3)
        assert.equal(pack(1) .. pack(2) .. pack(3), read(dir .. "/records.msgpack"))
        assert.is_false(support.exists(path))
        assert.error_matches(function() part:append("") end, "the part file is closed")
    end)

    it("raise a failure where the file is missing or damaged", function()
        local ok, failure = pcall(record.each, dir .. "/absent")
        assert.is_false(ok)
        assert.equal(dir .. "/absent: No such file or directory", failure.message)
        assert.equal(1, failure.status)
        support.write(path, pack(1) .. pack(2):sub(1, -2))
        local seen = 0
        ok, failure = pcall(function() for _ in record.each(path) do seen = seen + 1 end end)
        assert.is_false(ok)
        assert.equal(1, seen)
        assert.equal(path .. ": is cut off or damaged: a value claims 3 elements, 2 bytes are left",
            failure.message)
    end)

    it("take no other values than texts, numbers, booleans and series", function()
        assert.error_matches(function() core.pack {{"x", print}} end, "'x' must be a string, number")
        assert.error_matches(function() core.pack {{"x", {1, "a"}}} end, "element 2 of 'x'")
        assert.error_matches(function() core.pack {{"x", tensor.new {2, 2}}} end, "'x' must be")
        assert.error_matches(function() core.pack {{1, 2}} end, "key must be a string")
        assert.error_matches(function() core.pack {7} end, "wanted a list of {key, value}")
    end)
end)
