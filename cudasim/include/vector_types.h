// CUDA's short vectors, with CUDA's alignment.
#pragma once

#define SIM_VECTOR(type, name, bytes1, bytes2, bytes4)                                                       \
  struct alignas(bytes1) name##1 { type x; };                                                                \
  struct alignas(bytes2) name##2 { type x, y; };                                                             \
  struct name##3 { type x, y, z; };                                                                          \
  struct alignas(bytes4) name##4 { type x, y, z, w; };                                                       \
  inline name##2 make_##name##2(type x, type y) { return {x, y}; }                                           \
  inline name##3 make_##name##3(type x, type y, type z) { return {x, y, z}; }                                \
  inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
SIM_VECTOR(signed char, char, 1, 2, 4)
SIM_VECTOR(unsigned char, uchar, 1, 2, 4)
SIM_VECTOR(short, short, 2, 4, 8)
SIM_VECTOR(unsigned short, ushort, 2, 4, 8)
SIM_VECTOR(int, int, 4, 8, 16)
SIM_VECTOR(unsigned, uint, 4, 8, 16)
SIM_VECTOR(long long, longlong, 8, 16, 16)
SIM_VECTOR(unsigned long long, ulonglong, 8, 16, 16)
SIM_VECTOR(float, float, 4, 8, 16)
SIM_VECTOR(double, double, 8, 16, 16)
#undef SIM_VECTOR

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
