-- report.html as a reader sees it: in a browser without a window, on a phone's and a desk's width, in
-- light and dark, by keyboard; of a run whose file and class names are made to do harm.

local browser = require "browser"
local html = require "advrt.results.report.html"
local image = require "advrt.core.image"
local lfs = require "lfs"
local support = require "support"
local system = require "advrt.core.system"

local experiments = system.options.root .. "/experiments/"
local bundled = system.options.root .. "/nets/fashion-images"

local harmful = {
    '<img src=x onerror=alert(1)>.png', "\"'><script>alert(2)</script>.png", "a&lt;b\xff\u{202E}gnp.png",
    "</script><script>alert(3)</script>.png", "plain.png",
}

describe("text in a page", function()
    it("does nothing there", function()
        assert.equal("a&lt;b&gt;&amp;&quot;&#39;\\xff\u{FFFD}", html.text("a<b>&\"'\xff\1"))
        assert.equal('["\\u003c/script>"]', html.json {"</script>"})
        assert.equal("<bdi>x</bdi>", html.name("x"))
    end)

    it("is base64 by RFC 4648", function()
        for text, wanted in pairs {[""] = "", f = "Zg==", fo = "Zm8=", foo = "Zm9v", foobar = "Zm9vYmFy",
            ["\0\xff\xfe"] = "AP/+"} do
            assert.equal(wanted, html.base64(text))
        end
    end)

    it("is a drawing without what a drawing does not need", function()
        local function svg(inside)
            return html.svg("<svg viewBox='0 0 4 2'>" .. inside .. "</svg>", "p-", 'a"b')
        end
        local function wrapped(inside)
            return ('<svg role="img" aria-label="a&quot;b" style="--vw:4" viewBox="0 0 4 2">%s</svg>')
                :format(inside)
        end
        for inside, wanted in pairs {
            ["<script>alert(1)</script>"] = "",
            ["<g onload='x()' fill='#0072B2'/>"] = '<g fill="var(--g0072b2,#0072b2)"/>',
            ["<g fill='url(http://a)'></g>"] = "<g></g>",
            ["<a href='javascript:x'><g/></a>"] = "",
            ["<use xlink:href='#q'/><use href='http://a/b#c'/>"] = '<use href="#p-q"/><use/>',
            ["<path id='q' d='M0,0\nL1,1'/>"] = '<path id="p-q" d="M0,0 L1,1"/>',
            ["<text>a &amp; b & c > d</text>"] = "<text>a &amp; b &amp; c &gt; d</text>",
            ["<foreignObject><div>x</div></foreignObject>"] = "",
            ["<g><text>open"] = "<g><text>open</text></g>",
            ["</g></svg></body>"] = "",
            ["<!-- <g/> --><?x y?>"] = "",
            ["<meta http-equiv='refresh' <g>1</g>"] = "&lt;meta http-equiv='refresh' <g>1</g>",
            ["<g style='x' fill=\"rgb( 1, 2, 3)\"/>"] = '<g fill="var(--g010203,#010203)"/>',
        } do
            assert.equal(wrapped(wanted), svg(inside), inside)
        end
        assert.is_nil(html.svg("no drawing <b>at all</b>", "p-", "x"))
    end)

    it("is a drawing in a time that grows with its length alone", function()
        local function seconds(text)
            local from = os.clock()
            html.svg("<svg viewBox='0 0 4 2'>" .. text, "p-", "x")
            html.svg(text .. "</svg>", "p-", "x")
            html.svg("<svg " .. text .. ">", "p-", "x")
            return os.clock() - from
        end
        -- These take less than half a second where time grows with the length, else ten seconds and more.
        for _, part in ipairs {"<!--", "<?", "<![CDATA[", "<", "<a", "a", "a:", "a=", "a='", "a=\"", "a ",
            " ", "&", "&a", "<g ", "<g a='", "</g", "<svg viewBox='0", "viewBox='", "viewBox='0 ", "width='",
            "width ", "-", "\xff", "<g><!--", "rgb(", "#", "fill='rgb( "} do
            local long = seconds(part:rep(30000))
            assert.is_true(long < 2, ("%s: %.1f s"):format(part, long))
        end
    end)
end)

describe("report.html", function()
    local base, run, other

    setup(function()
        base = support.folder()
        local images = base .. "/images"
        lfs.mkdir(images)
        local lines, i = {"file,label"}, 0
        for line in io.lines(bundled .. "/labels.csv") do
            local file, label = line:match("^(%d+%.png),(%d)")
            if file and i < #harmful then
                i = i + 1
                support.write(images .. "/" .. harmful[i]:gsub("/", "\u{2215}"),
                    support.read(bundled .. "/" .. file))
                -- The last is wrong, to be left out.
                lines[#lines + 1] = ('"%s",%d'):format(harmful[i]:gsub("/", "\u{2215}"):gsub('"', '""'),
                    i == #harmful and (label + 1) % 10 or label)
            end
        end
        support.write(images .. "/labels.csv", table.concat(lines, "\n") .. "\n")
        support.write(images .. "/classes.txt", ("<b onclick=alert(4)>\n"):rep(10))
        run, other = base .. "/run's <b>", base .. "/other"
        for _, one in ipairs {{"equal_perturbation.lua", run}, {"equal_multiplier.lua", other}} do
            local status, out, err = support.advrt {experiments .. one[1], "--images", images,
                "--iterations", "30", "--batch", "5", "--losses", "ce,m_logit", "--out", one[2]}
            assert.equal(0, status, err)
            assert.truthy(out:find("Report: " .. one[2] .. "/report.html", 1, true))
        end
        -- A drawing from elsewhere, for one that is looked at but not made here.
        local drawing = support.read(other .. "/fig4.svg")
        support.write(other .. "/fig4.svg", (drawing:gsub("</svg>%s*$",
            "<script>alert(5)</script><image href='http://nowhere.invalid/x.png'/>%0")))
    end)
    teardown(function() support.remove(base) end)

    -- How far the brightest and darkest pixel of a PNG are apart, and how many grey values it has.
    local function contrast(path)
        local x = assert(image.load(path, {channels = 1}))
        local seen, count = {}, 0
        local shape = x:shape()
        for row = 1, shape[2], math.max(1, shape[2] // 40) do
            for _, v in ipairs(x[1][row]:totable()) do
                if not seen[v] then seen[v], count = true, count + 1 end
            end
        end
        return x:maximum() - x:minimum(), count
    end

    local pictures = [[JSON.stringify([...document.querySelectorAll("img, .plot svg, .chart svg")].map(e => {
        const r = e.getBoundingClientRect();
        return {x: r.x + scrollX, y: r.y + scrollY, height: r.height,
            width: Math.min(r.width, innerWidth - r.x),
            whole: e.tagName !== "IMG" || e.complete && e.naturalWidth > 0,
            alt: e.getAttribute("alt") || e.getAttribute("aria-label") || ""};
    }))]]

    -- Looks at a page in each size and light: all pictures are there, and each `every`-th is not empty.
    local function look(path, wanted, every)
        local b <close> = browser.start()
        for _, width in ipairs {400, 1400} do
            for _, dark in ipairs {false, true} do
                local what = ("%d wide, %s"):format(width, dark and "dark" or "light")
                b:open(path, {width = width, height = 900, dark = dark})
                assert.is_true(b:evaluate("document.documentElement.scrollWidth <= innerWidth"), what)
                local all = require "dkjson".decode(b:evaluate(pictures))
                assert.equal(wanted, #all, what)
                for i, p in ipairs(all) do
                    assert.is_true(p.whole and p.width > 40 and p.height > 40, what)
                    assert.is_true(#p.alt > 5, what)
                    if i % every == (dark and 1 or 0) then
                        b:screenshot(base .. "/part.png", p)
                        local range, greys = contrast(base .. "/part.png")
                        assert.is_true(range > 30 and greys > 4,
                            ("%s: %s shows %g, %d greys"):format(what, p.alt, range, greys))
                    end
                end
                b:screenshot(base .. "/page.png")
                local paper = assert(image.load(base .. "/page.png", {channels = 1}))
                assert.equal(dark, paper[1]:get(1, 1) < 60, what)
            end
        end
        assert.same({}, b.errors)
        return b
    end

    it("compares the losses over the images that all of them flip", function()
        local dir = base .. "/flipping"
        local status, _, err = support.advrt {experiments .. "equal_perturbation.lua", "--images",
            base .. "/images", "--iterations", "30", "--magnitude", "0.3", "--losses", "ce,m_logit",
            "--no-figures", "--out", dir}
        assert.equal(0, status, err)
        local page = support.read(dir .. "/report.html")
        local sums, count = {}, 0
        local rows = support.rows(dir .. "/least_perturbation.csv")
        for i = 1, #rows, 2 do
            if rows[i].iteration >= 0 and rows[i + 1].iteration >= 0 then
                count = count + 1
                for k = i, i + 1 do sums[rows[k].loss] = (sums[rows[k].loss] or 0) + rows[k].l2 end
            end
        end
        assert.is_true(count > 0)
        -- So few images tell no loss from the other.
        local low, high = math.min(sums.ce, sums.m_logit), math.max(sums.ce, sums.m_logit)
        assert.truthy(page:find(("L<sub>2</sub> %.3g, %.3g at the flip, mean over the %d image%s that every "
            .. "loss flipped; the tests show no difference between them"):format(low / count, high / count,
            count, count == 1 and "" or "s"), 1, true))
        for _, what in ipairs {"Fewest iterations", "Least perturbation"} do
            assert.truthy(page:find("<dt>" .. what .. ": a tie</dt>", 1, true), what)
        end
        assert.is_nil(page:find("Under an equal multiplier", 1, true))
    end)

    it("names one loss alone where it differs from every other, warns of an equal multiplier, and knows "
        .. "one path", function()
        local dir = base .. "/losses"
        local own = support.write(base .. "/thrice.lua", 'require("advrt.loss").define("thrice", '
            .. "function(z, t) return 3 * z:log_softmax(2):gather(2, t) end)\n")
        local function page_of(script, losses, more)
            support.remove(dir)
            local words = {experiments .. script, "--limit", "24", "--iterations", "60", "--require", own,
                "--no-figures", "--losses", losses, "--out", dir}
            local status, _, err = support.advrt(table.move(more, 1, #more, #words + 1, words))
            assert.equal(0, status, err)
            return support.read(dir .. "/report.html")
        end
        local page = page_of("equal_perturbation.lua", "ce,ce_sign,thrice", {})
        assert.truthy(page:find("<dt>Fewest iterations: a tie</dt><dd>CE, thrice<", 1, true)
            or page:find("<dt>Fewest iterations: a tie</dt><dd>thrice, CE<", 1, true))
        assert.matches('<p class="note">CE and thrice take the same path: the same flip on %d+ of %d+ '
            .. "images, and series within [%d.e-]+ %%%.</p>", page)
        page = page_of("equal_perturbation.lua", "ce_sign,ce", {})
        assert.truthy(page:find("<dt>Fewest iterations</dt><dd>CE<", 1, true))
        assert.is_nil(page:find("take the same path", 1, true))
        assert.truthy(page:find("<br><small>CE less, p &lt;0.0001</small>", 1, true))
        page = page_of("equal_multiplier.lua", "ce,ce_sign", {"--alpha", "0.01"})
        local tile = page:match("<dt>Fewest iterations.-</div>")
        assert.truthy(tile:find("do not tell which loss is faster", 1, true))
        -- Who has one loss compares nothing.
        page = page_of("equal_perturbation.lua", "logit", {})
        assert.is_nil(page:find("Fewest iterations", 1, true))
        assert.is_nil(page:find("Pairs of losses", 1, true))
        assert.truthy(page:find("not reached", 1, true))
    end)

    it("says under each heading what is there, and its words where they first stand", function()
        local page = support.read(run .. "/report.html")
        local count = 0
        for heading, lead in page:gmatch('<h2>([^<]+)</h2>%s*<p class="lead">([^<]+)</p>') do
            count = count + 1
            assert.is_true(#lead > 30 and lead:find("%.$") ~= nil, heading)
        end
        assert.equal(count, select(2, page:gsub("<h2>", "")))
        assert.is_true(count >= 8)
        local main = page:find("<main", 1, true)
        for _, one in ipairs {{"M-Logit", "<dt>M-Logit</dt><dd>the target&#39;s logit minus"},
            {"CE", "<dt>CE</dt><dd>the cross-entropy"}, {"Flip", "<dt>Flip</dt>"},
            {"S1", "S1: a class other than the target"},
            {"urvives 8 bits", "An image\nsurvives 8 bits if"}} do
            local first, meant = page:find(one[1], main, true), page:find(one[2], 1, true)
            assert.truthy(meant, one[2])
            assert.is_true(first >= meant, one[1])
        end
        assert.truthy(page:find("up to a margin of 20.", 1, true))
        assert.is_nil(page:find("<dt>Logit</dt>", 1, true)) -- no loss of this run
    end)

    it("tells the command as it was called", function()
        local page = support.read(run .. "/report.html")
        assert.truthy(page:find(("<code>%s --device %s --threads %d --plan %s %sequal_perturbation.lua ")
            :format(system.options.executable, system.options.device, system.options.threads,
                system.options.plan, experiments), 1, true))
    end)

    it("shows its pictures at 400 and 1400 pixels, light and dark, and says nothing amiss", function()
        -- 4 images: original, and two losses' adversarial and perturbation; 5 figures and the chart.
        look(run .. "/report.html", 4 * 5 + 5 + 1, 3)
    end)

    it("has what happened in it, and names that do nothing", function()
        local b <close> = browser.start()
        b:open(run .. "/report.html", {width = 1400, height = 900})
        local text = b:evaluate("document.body.innerText")
        for _, wanted in ipairs {"Equal perturbation", "CE", "M-Logit", "--iterations 30", "80.0",
            "wrong on the clean image", "equal_perturbation.lua", "a&lt;b\\xff", "<b onclick=alert(4)>"} do
            assert.truthy(text:find(wanted, 1, true) or b:evaluate("document.body.textContent")
                :find(wanted, 1, true), wanted)
        end
        assert.equal(0, b:evaluate("document.querySelectorAll('[onerror],[onclick],b[onclick]').length"))
        assert.equal(2, b:evaluate("document.scripts.length")) -- the page's, and its data
        assert.same({}, b.errors)
        b:evaluate("const s = document.createElement('script'); s.textContent = 'window.ran = 1'; "
            .. "document.body.append(s)")
        assert.equal("undefined", b:evaluate("typeof window.ran"))
        assert.matches("Content Security Policy", b.errors[1])
    end)

    it("is used by keyboard alone", function()
        local b <close> = browser.start()
        b:open(run .. "/report.html", {width = 1400, height = 900})
        local function focused(expression)
            return b:evaluate(("(e => %s)(document.activeElement)"):format(expression))
        end
        local function tab_to(selector)
            for _ = 1, 80 do
                b:key("Tab")
                if focused(("e.matches(%q)"):format(selector)) then
                    assert.is_true(focused([[getComputedStyle(e).outlineStyle !== "none"
                        || getComputedStyle(e.nextElementSibling).outlineStyle !== "none"]]), selector)
                    return
                end
            end
            error("Tab does not lead to " .. selector)
        end
        local function label() return b:evaluate("document.querySelector('.chart svg').ariaLabel") end

        tab_to("a.skip")
        tab_to("nav a[href='#gallery']")
        b:key("Enter")
        assert.equal("#gallery", b:evaluate("location.hash"))
        tab_to(".viewer select")
        local first = label()
        b:key("ArrowDown")
        assert.not_equal(first, label())
        tab_to("button[data-move='-1']")
        b:key(" ")
        assert.equal(first, label())
        tab_to("button[data-move='1']")
        b:key("Enter")
        assert.not_equal(first, label())
        tab_to("input[type=radio]")
        assert.matches("^Softmax", label())
        b:key("ArrowRight")
        assert.matches("^Logits", label())
        tab_to("input[type=range]")
        b:key("End")
        assert.equal("30", b:evaluate("document.querySelector('.slider output').textContent"))
        b:key("ArrowLeft")
        assert.equal("29", b:evaluate("document.querySelector('.slider output').textContent"))
        tab_to("#left summary")
        b:key("Enter")
        assert.is_true(b:evaluate("document.querySelector('#left details').open"))
        tab_to("button[data-copy]")
        b:key("Enter")
        b:evaluate("new Promise(done => setTimeout(done, 100))")
        assert.matches("^Copied$", (b:evaluate("document.querySelector('[data-copy]').textContent")
            :gsub("^Selected.*", "Copied")))
        assert.same({}, b.errors)
    end)

    it("puts runs side by side", function()
        local dir = base .. "/both"
        local status, out, err = support.advrt {experiments .. "compare.lua", run, other, "--out", dir}
        assert.equal(0, status, err)
        assert.truthy(out:find(("\nReport: %s/report.html\n"):format(dir), 1, true))
        -- The same losses on the same images and targets, in pairs of runs.
        assert.matches("\nM%-Logit: run 1 %- run 2 +%d ", out)
        local rows, both = support.rows(dir .. "/paired.csv"), 0
        assert.equal(2 * 3 * 2, #rows)
        local least = {support.rows(run .. "/least_perturbation.csv"), support.rows(other
            .. "/least_perturbation.csv")}
        for i, row in ipairs(least[1]) do
            local flips = row.iteration >= 0 and least[2][i].iteration >= 0
            if row.loss == "ce" and flips then both = both + 1 end
        end
        assert.same({run, other, "ce", "iterations", both}, {rows[1].run_a, rows[1].run_b, rows[1].loss,
            rows[1].quantity, rows[1].n})
        assert.truthy(support.read(dir .. "/report.html"):find('<section id="between">', 1, true))
        look(dir .. "/report.html", 2 * (4 * 5 + 1) + 5 + 6, 8)
        local b <close> = browser.start()
        local function tops(width)
            b:open(dir .. "/report.html", {width = width, height = 900})
            -- What would have to be scrolled to be seen: a desk has room for all of it.
            assert.equal("", b:evaluate([[[...document.querySelectorAll(
                "#table1 .scroll, #statistics .scroll, #figures .scroll")]
                .filter(e => e.scrollWidth > e.clientWidth).map(e => e.ariaLabel).join()]]), width)
            return b:evaluate("document.querySelectorAll('#table1 .run')[0].offsetTop"),
                b:evaluate("document.querySelectorAll('#table1 .run')[1].offsetTop")
        end
        for _, width in ipairs {1000, 1300, 1400} do
            local first, second = tops(width)
            assert.is_true(first < second)
        end
        local first, second = tops(1750)
        assert.equal(first, second)
        -- A row holds what is of one kind.
        assert.same("2 1", b:evaluate([[(h => h.length + " " + new Set(h).size)(
            [...document.querySelectorAll("#figures .runs:nth-of-type(1) h3")].map(e => e.innerText))]]))
        assert.matches("equal_multiplier", b:evaluate("document.querySelector('#differences').innerText"))
    end)

    it("is refused in one line, or made, of a run that someone has changed", function()
        local changed = base .. "/changed"
        for _, change in ipairs {
            {"table1.csv", "(\n[^,]*,[^,]*),%d+,%d+", "%1,2.5,1.5"},
            {"table1.csv", ",[^,\n]*\n$", ",inf\n"},
            {"table1.csv", "(\n[^,]*,[^,]*,%d+),%d+,[^,]*,", "%1,0,nan,"},
            {"table1.csv", "\n[^\n]*\n$", "\n"},
            {"records.msgpack", "flip_l2\xcb........", "flip_l2\xcb\x7f\xf8\0\0\0\0\0\0"},
            {"run.json", '"images_found":%s*%d+', '"images_found": 0'}, {"run.json", '"figures"', '"figure"'},
            {"left_out.csv", "$", '"'}, {"run.json", '"seed":%s*%d+', '"seed": {}'},
            {"classes.txt", "^[^\n]*", "\xff\xfe"}} do
            os.execute(("rm -rf %s; cp -r %s %s"):format(support.quote(changed), support.quote(run),
                support.quote(changed)))
            local path = changed .. "/" .. change[1]
            if support.exists(path) then
                support.write(path, (support.read(path):gsub(change[2], change[3])))
            end
            support.reseal(changed)
            local dir = base .. "/of_changed"
            local status, _, err = support.advrt {experiments .. "compare.lua", run, changed, "--out", dir}
            local told = ("%s, %s: %s"):format(change[1], change[2], err)
            assert.is_true(status == 0 or status == 1, told)
            if status == 1 then
                assert.matches("^advrt: [^\n]+\n$", err)
                assert.is_false(support.exists(dir), told)
            end
            support.remove(dir)
        end
    end)

    it("is refused of what is no run, or of one alone", function()
        for _, case in ipairs {{{run}, 2, "two runs or more"}, {{run, bundled}, 1, "run.json"},
            {{run, base .. "/nowhere"}, 1, "run.json"}} do
            local words = table.move(case[1], 1, #case[1], 2, {experiments .. "compare.lua"})
            words[#words + 1], words[#words + 2] = "--out", base .. "/none"
            local status, out, err = support.advrt(words)
            assert.equal(case[2], status, err)
            assert.equal("", out)
            assert.matches("^advrt: [^\n]+\n$", err)
            assert.truthy(err:find(case[3], 1, true), err)
            assert.is_false(support.exists(base .. "/none"))
        end
    end)
end)
