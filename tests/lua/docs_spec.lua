-- Help and completion: every public function is documented where a session looks, and names go on.

local docs = require "advrt.session.docs"
local lfs = require "lfs"
local loss = require "advrt.loss"
local names = require "advrt.session.names"
local record = require "advrt.record"
local show = require "advrt.session.show"
local support = require "tests.support"
local system = require "advrt.core.system"
local tensor = require "advrt.tensor"

local root = system.options.root
local folder

-- The public modules under their names, as a session has them, and an object of every class.
local function globals_of_a_session()
    local globals = {}
    for _, name in ipairs(docs.modules) do globals[name] = require("advrt." .. name) end
    globals.batch = tensor.new {2, 3}
    globals.g = assert(globals.net.load("fashion"))
    globals.fashion = globals.data.folder(root .. "/nets/fashion-images",
        {classes = 10, input = globals.g.input})
    globals.rule = globals.attack.equal_multiplier(0.1)
    globals.writer = assert(record.part(folder .. "/records.part"))
    return globals
end

local function described(expression, globals, name)
    local text = docs.help(expression, globals)
    assert.truthy(text, "no help for " .. expression)
    local signature, words = text:match("^([^\n]*)\n(.*)$")
    assert.truthy(signature and words:find("%a%a%a"), "no docstring for " .. expression)
    assert.truthy(signature:find(name, 1, true), ("%s is described by '%s'"):format(expression, signature))
end

describe("help", function()
    it("shortens what it says of a module to whole words, with no parenthesis left open", function()
        local count = 0
        for _, part in ipairs {"attacks", "results", "run", "support"} do
            for file in lfs.dir(("%s/lua/advrt/%s"):format(root, part)) do
                local name = file:match("^(.*)%.lua$")
                local gist = name and docs.gist(part .. "." .. name) or ""
                assert.equal(select(2, gist:gsub("[(]", "")), select(2, gist:gsub("[)]", "")), gist)
                count = count + (name and 1 or 0)
            end
        end
        assert.is_true(count > 40)
        assert.equal("Auto-PGD", docs.gist("attacks.apgd"))
    end)

    before_each(function() folder = support.folder() end)
    after_each(function() support.remove(folder) end)

    it("knows every function of every public module", function()
        local globals, count = globals_of_a_session(), 0
        for _, module in ipairs(docs.modules) do
            assert.truthy(docs.help(module, globals):find("%a%a%a"))
            assert.truthy(docs.module(module).about[1], "no docstring on " .. module)
            for name, value in pairs(globals[module]) do
                if type(value) == "function" then
                    described(module .. "." .. name, globals, name)
                    count = count + 1
                end
            end
        end
        assert.is_true(count > 30)
    end)

    it("knows every method of every object", function()
        local globals = globals_of_a_session()
        local methods = {batch = 40, g = 10, ["loss.ce"] = 2, fashion = 3, writer = 3}
        for expression, least in pairs(methods) do
            local count = 0
            for name in pairs(names.fields(names.value(expression, globals), true)) do
                if name:sub(1, 2) ~= "__" then
                    described(expression .. ":" .. name, globals, name)
                    count = count + 1
                end
            end
            assert.is_true(count >= least, ("%s has %d methods"):format(expression, count))
        end
    end)

    it("knows what no variable holds: builder, losses in files, experiments", function()
        for _, expression in ipairs {"Builder:conv", "b:conv", "b:conv(x, 'c1')"} do
            described(expression, {}, "Builder:conv(x, name, o)")
        end
        assert.truthy(docs.help("Builder", {}):find("Builder:maxpool(x, o)", 1, true))
        assert.truthy(docs.help("loss.dlr", {loss = loss}):find("Croce", 1, true))
        assert.truthy(docs.help("loss.dlr", {loss = loss}):find('loss.load "dlr"', 1, true))
        local list = docs.help("experiments", {})
        for name in lfs.dir(root .. "/experiments") do
            local script = name:match("^(.*)%.lua$")
            if script then assert.truthy(list:find("\n  " .. script .. " +%u"), script) end
        end
        assert.truthy(docs.help("theorem", {}):find("Theorem IV.2", 1, true))
        assert.is_nil(docs.help("loss.none", {loss = loss}))
        assert.is_nil(docs.help("nothing_such", {}))
    end)

    it("finds a function by its value, a method without an object, and any by its last name", function()
        local globals = {alias = {stack = tensor.stack, load = tensor.load}, t = tensor}
        for expression, wanted in pairs {
            ["alias.load"] = "tensor.load(path, options)", ["t.stack"] = "tensor.stack(list)",
            ["t.stack(list)"] = "tensor.stack(list)", ["x:clamp"] = "x:clamp(low, high)",
            ["y:clamp"] = "x:clamp(low, high)", clamp_ = "x:clamp_(low, high)", mul = "x:mul(y)",
            ["net.load"] = "net.load(path, opts)", ["g:trace"] = "Net:trace(x, z)"
        } do
            local text = docs.help(expression, globals)
            assert.truthy(text and text:find(wanted, 1, true), expression .. ": " .. tostring(text))
        end
        assert.is_nil(docs.help("nonsense", globals))
        assert.is_nil(docs.help("tensor.nonsense", globals))
        assert.is_nil(docs.help("1 + 1", globals))
        assert.equal("{1, 2}", docs.help("pair", {pair = {1, 2}}))
    end)

    it("reads the docstrings of a script", function()
        local path = support.write(folder .. "/script.lua", table.concat({
            "--- About the script.", "-- Its second line.", "local M = {}", "",
            "--- Twice v.", "-- @param v a number", "function M.twice(v) return 2 * v end",
            "--- Kept to itself.", "local function hidden() end", "",
            "--- o:one(a), o:two(b) -> c", "-- In C.", "", "-- no docstring",
            "function M.plain() hidden() end",
            "--- No definition follows.", "", "return M", ""
        }, "\n"))
        local read = docs.read(path, "script")
        assert.same({"About the script.", "Its second line."}, read.about)
        local seen = {}
        for i, e in ipairs(read.entries) do
            local text = table.concat(e.text, "/")
            seen[i] = ("%s|%s|%s"):format(e.signature, text, e.private and "private" or "")
        end
        assert.same({"script.twice(v)|Twice v./v a number|", "hidden()|Kept to itself.|private",
            "o:one(a), o:two(b) -> c|In C.|", "o:one(a), o:two(b) -> c|In C.|"}, seen)
        assert.truthy(docs.help("f", {f = dofile(path).twice}):find("Twice v.", 1, true))
        assert.is_nil(docs.find("f", {f = dofile(path).plain})[1])
    end)
end)

describe("completion", function()
    local variables = {value = {inner = {one = 1, other = print}, input = 2}, verse = "v"}
    variables.x = tensor.new {2, 3}
    local globals = setmetatable(variables, {
        __index = function(_, name) return name == "tensor" and tensor or nil end,
    })

    local function complete(line) return {names.complete(line, globals, {"tensor"}, 40)} end

    it("inserts what all candidates share, then lists them", function()
        assert.same({"lue"}, complete("print(va"))
        local tracked = require "advrt.autograd".track(require "advrt.tensor".new {1})
        assert.is_function(names.fields(tracked, true).gather)
        assert.is_table(names.fields(require "advrt.loss").m_logit)
        assert.same({""}, complete("v = v.nothing"))
        assert.same({"in"}, complete("value."))
        assert.same({"", "inner  input"}, complete("value.in"))
        assert.same({"ther"}, complete("a = value.inner:o"))
        assert.same({"", "one    other"}, complete("value.inner.o"))
        assert.same({"", "value  verse"}, complete("v"))
        assert.same({"tion"}, complete("func"))
        assert.same({"    "}, complete("  "))
    end)

    it("knows modules at hand, methods of C and rows of tensors", function()
        assert.same({"or"}, complete("tens"))
        assert.same({"form"}, complete("tensor.uni"))
        assert.same({"nk"}, complete("x:ra"))
        assert.same({"nk"}, complete("x[1]:ra"))
        assert.same({""}, complete("x[3]:ra"))
    end)

    it("leaves alone what it cannot know", function()
        for _, line in ipairs {"f():o", "f().o", "('x'):re", "value.inner.one.o", "3.", "verse.x.y"} do
            assert.same({""}, complete(line), line)
        end
    end)

    it("completes the names of files within quotes", function()
        local home = support.folder()
        os.execute(("cd %s && mkdir sub && touch sub/one.txt sub/other.png .hidden"):format(home))
        assert.same({"ub/"}, complete("f('" .. home .. "/s"))
        assert.same({"o"}, complete('f("' .. home .. "/sub/"))
        assert.same({"", "one.txt    other.png"}, complete("f('" .. home .. "/sub/o"))
        assert.same({"e.txt'"}, complete("f('" .. home .. "/sub/on"))
        assert.same({'e.txt"'}, complete([[f('it\'s', "]] .. home .. "/sub/on"))
        assert.same({""}, complete("f('" .. home .. "/none/o"))
        assert.same({""}, complete("f('closed') -- 'v"))
        support.remove(home)
    end)
end)

describe("the page of layers and operators", function()
    it("is what the source gives", function()
        local status, out = support.advrt {root .. "/packaging/layers.lua"}
        assert.equal(0, status)
        local file = assert(io.open(root .. "/docs/layers.md"))
        local page = file:read "a"
        file:close()
        assert.equal(page, out, "build/advrt packaging/layers.lua > docs/layers.md writes it anew")
        for _, line in ipairs {"| `b:conv(x, name, o)` | Convolution",
            "| MaxPool | with dilations; with indices |", " Gelu, Gemm, ", " ScatterND, Shape, "} do
            assert.truthy(page:find(line, 1, true), line)
        end
    end)
end)

describe("values", function()
    it("are shown on one line where they are short", function()
        assert.equal("{1, 2, a = \"b\", [true] = {3}}", show.value {1, 2, a = "b", [true] = {3}})
        assert.equal("text\tnil\t1.5", show.values(table.pack("text", nil, 1.5)))
        assert.equal("{a = {b = {...}}}", show.value {a = {b = {1}}})
        local many = show.value(tensor.uniform("many", {100}):totable())
        assert.truthy(many:find("\n  ... 80 more\n}", 1, true), many)
        local own = {}
        own.own = own
        assert.equal("{own = {own = {...}}}", show.value(own))
    end)

    it("of tensors are elided in the middle of every dimension", function()
        local x = tensor.new {9, 9}
        for i = 1, 9 do
            for j = 1, 9 do x:set(10 * i + j, i, j) end
        end
        assert.equal(table.concat({"tensor f32 [9,9] in 11 .. 99, 0 NaN",
            "  11  12  13  ...  17  18  19", "  21  22  23  ...  27  28  29",
            "  31  32  33  ...  37  38  39", "  ...", "  71  72  73  ...  77  78  79",
            "  81  82  83  ...  87  88  89", "  91  92  93  ...  97  98  99"}, "\n"), show.value(x))
        assert.equal("tensor i64 [3] in 1 .. 3, 0 NaN\n  1  2  3", show.value(tensor.from({1, 2, 3}, "i64")))
        assert.equal("tensor f32 [2] in 1 .. 1, 1 NaN\n    1  nan", show.value(tensor.from {1, 0 / 0}))
        local text = show.value(tensor.uniform("deep", {2, 3, 2, 2}))
        assert.truthy(text:find("\n  [1,1,.,.]\n", 1, true) and text:find("\n  [1,2,.,.]\n", 1, true))
        assert.truthy(text:find("\n  ... 4 more$"), text)
        assert.equal("tensor f32 [0,3], 0 NaN", show.value(tensor.new {0, 3}))
        assert.equal("tensor f32 [] in 5 .. 5, 0 NaN\n  5", show.value(tensor.from {4, 5}[2]))
    end)
end)
