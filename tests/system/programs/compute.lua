-- SPDX-License-Identifier: Apache-2.0
-- Guest program: computations whose results are published (the Computer Language Benchmarks Game).
local function fannkuch(n)
	local p, q, s, sign, max, sum = {}, {}, {}, 1, 0, 0
	for i = 1, n do p[i], q[i], s[i] = i, i, i end
	while true do
		local first = p[1]
		if first ~= 1 then
			for i = 2, n do q[i] = p[i] end
			local flips = 1
			while true do
				local next = q[first]
				if next == 1 then break end
				q[first] = first
				if first >= 4 then
					local i, j = 2, first - 1
					repeat
						q[i], q[j] = q[j], q[i]
						i, j = i + 1, j - 1
					until i >= j
				end
				first, flips = next, flips + 1
			end
			sum = sum + sign * flips
			if flips > max then max = flips end
		end
		if sign == 1 then
			p[1], p[2], sign = p[2], p[1], -1
		else
			p[2], p[3], sign = p[3], p[2], 1
			for i = 3, n do
				if s[i] ~= 1 then
					s[i] = s[i] - 1
					break
				end
				if i == n then return sum, max end
				s[i] = i
				local t = p[1]
				for j = 1, i do p[j] = p[j + 1] end
				p[i + 1] = t
			end
		end
	end
end

local function spectral_norm(n)
	local function a(i, j)
		local ij = i + j
		return 1 / (ij * (ij + 1) / 2 + i + 1)
	end
	local function multiply(x, y, transposed)
		for i = 0, n - 1 do
			local sum = 0
			for j = 0, n - 1 do sum = sum + x[j] * (transposed and a(j, i) or a(i, j)) end
			y[i] = sum
		end
	end
	local u, v, t = {}, {}, {}
	for i = 0, n - 1 do u[i] = 1 end
	for _ = 1, 10 do
		multiply(u, t) multiply(t, v, true)
		multiply(v, t) multiply(t, u, true)
	end
	local uv, vv = 0, 0
	for i = 0, n - 1 do uv, vv = uv + u[i] * v[i], vv + v[i] * v[i] end
	return math.sqrt(uv / vv)
end

local function primes(n)
	local composite, count = {}, 0
	for i = 2, n do
		if not composite[i] then
			count = count + 1
			for j = i * i, n, i do composite[j] = true end
		end
	end
	return count
end

local n = tonumber(arg[1])
print("fannkuch", n, fannkuch(n))
print("spectral norm", string.format("%.9f", spectral_norm(100)))
print("primes", primes(100000))
local words = {}
for w in ("the quick brown fox jumps over the lazy dog"):gmatch("%a+") do words[#words + 1] = w:upper() end
table.sort(words)
print("words", table.concat(words, ","))
print("error", select(2, pcall(error, { 42 }))[1])
